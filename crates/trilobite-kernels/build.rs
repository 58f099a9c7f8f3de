//! Builds the C kernels if the feature `c-kernels` is enabled.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "c-kernels")]
    if let Err(reason) = c_kernels::build() {
        println!("cargo::error={reason}");
    }
}

#[cfg(feature = "c-kernels")]
mod c_kernels {
    use std::env::var;

    /// Compiles the kernels for the target. The error is one line that says why this is not
    /// possible.
    pub(super) fn build() -> Result<(), String> {
        println!("cargo::rerun-if-changed=c");
        let arch = var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        // Without SSE2, x86 computes floats in 80 bits.
        compile("portable", if arch == "x86" { &["-msse2", "-mfpmath=sse"] } else { &[] })?;
        if arch == "aarch64" {
            compile("i8mm", &["-march=armv8.2-a+dotprod+i8mm"])?;
        }
        Ok(())
    }

    fn compile(name: &str, flags: &[&str]) -> Result<(), String> {
        let mut build = cc::Build::new();
        build.file(format!("c/{name}.c")).std("c11").opt_level(3).flag("-ffp-contract=off");
        build.flags(flags).extra_warnings(true).cargo_warnings(false);
        let compiler = build.try_get_compiler().map_err(|error| reason(&error))?;
        if compiler.is_like_msvc() {
            return Err("the feature c-kernels needs GCC or clang, not MSVC".to_owned());
        }
        build.try_compile(&format!("trilobite_{name}")).map_err(|error| reason(&error))
    }

    fn reason(error: &cc::Error) -> String {
        let error = error.to_string();
        let first = error.lines().next().unwrap_or_default();
        format!("the feature c-kernels needs a C compiler that works: {first}")
    }
}
