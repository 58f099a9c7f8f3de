//! Builds the kernels in C, if the feature `c-kernels` asks for them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "c-kernels")]
    c_kernels::build();
}

#[cfg(feature = "c-kernels")]
mod c_kernels {
    use std::env::var;

    pub(super) fn build() {
        println!("cargo::rerun-if-changed=c");
        let arch = var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        compile("portable", if arch == "x86" { &["-msse2", "-mfpmath=sse"] } else { &[] });
        if arch == "aarch64" {
            compile("i8mm", &["-march=armv8.2-a+dotprod+i8mm"]);
        }
    }

    /// Compiles `c/NAME.c`, or ends the build with one line that says why that is not possible.
    fn compile(name: &str, flags: &[&str]) {
        let mut build = cc::Build::new();
        build.file(format!("c/{name}.c")).std("c11").opt_level(3).flag("-ffp-contract=off");
        build.flags(flags).extra_warnings(true);
        let compiled = build.try_get_compiler().and_then(|compiler| {
            if compiler.is_like_msvc() {
                fail("the feature c-kernels needs GCC or clang, and the C compiler is MSVC's");
            }
            build.try_compile(&format!("trilobite_{name}"))
        });
        if let Err(error) = compiled {
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default();
            fail(&format!("the feature c-kernels needs a C compiler: {first}"));
        }
    }

    fn fail(reason: &str) -> ! {
        println!("cargo::error={reason}");
        std::process::exit(1);
    }
}
