//! Tests that all commands treat the projections of a model alike: they refuse the same files, and
//! print the same notes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use trilobite_format::{Gguf, Metadata, TensorType, Writer, ternary};
use trilobite_kernels::{DenseType, Layout, i2_s};

use crate::fixture::Fixture;
use crate::trilobite::{command, convert_to, logits, stdout};

const TOKENS: [u32; 5] = [1, 2, 3, 4, 5];
/// The names of the projections, without `blk.0.` and `.weight`.
const PROJECTIONS: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// A GGUF file that a test can change.
#[derive(Clone)]
struct File {
    metadata: Metadata,
    /// Name, type, shape and bytes.
    tensors: Vec<(String, TensorType, Vec<u64>, Vec<u8>)>,
}

impl File {
    fn read(path: &Path) -> File {
        let bytes = fs::read(path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let tensors = gguf.tensors().iter().map(|info| {
            (info.name.clone(), info.ty, info.shape.clone(), info.bytes(&bytes).to_vec())
        });
        File { metadata: gguf.metadata().clone(), tensors: tensors.collect() }
    }

    /// A model in I2_S, as bitnet.cpp writes it.
    fn foreign() -> File {
        File::read(&Fixture::named("bitnet_gguf").folder.join("model-i2_s.gguf"))
    }

    /// A fixture, converted to a layout.
    fn converted(fixture: &str, layout: &str) -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        convert_to(layout, &Fixture::named(fixture).folder, &path).unwrap();
        File::read(&path)
    }

    fn write(&self, path: &Path) {
        let index = self.tensors.iter().map(|(n, ty, shape, _)| (n.clone(), *ty, shape.clone()));
        let mut writer = Writer::new(Vec::new(), &self.metadata, index.collect()).unwrap();
        for (name, _, _, bytes) in &self.tensors {
            writer.tensor(name, bytes).unwrap();
        }
        fs::write(path, writer.finish().unwrap()).unwrap();
    }

    fn get(&mut self, name: &str) -> &mut (String, TensorType, Vec<u64>, Vec<u8>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    /// The trits and the scale of an I2_S projection.
    fn trits(&mut self, name: &str) -> (Vec<i8>, f32) {
        let (_, ty, shape, bytes) = self.get(name);
        assert_eq!(*ty, TensorType::I2S);
        let (codes, scale) = ternary::split(bytes).unwrap();
        let mut trits = vec![0; (shape[0] * shape[1]) as usize];
        let layout = Layout::I2S(i2_s::Rows::Flat);
        layout.unpack(codes, shape[1] as usize, &mut trits);
        (trits, scale)
    }

    /// Stores an I2_S projection as another type; `bytes` encodes its trits and scale.
    fn store(&mut self, name: &str, ty: TensorType, bytes: impl Fn(&[i8], f32) -> Vec<u8>) {
        let (trits, scale) = self.trits(name);
        let bytes = bytes(&trits, scale);
        let tensor = self.get(name);
        (tensor.1, tensor.3) = (ty, bytes);
    }

    /// Renames the architecture, and removes sub-norms if it has none.
    fn of_architecture(mut self, name: &str) -> File {
        let old = self.metadata.str("general.architecture").unwrap().unwrap().to_owned() + ".";
        let mut metadata = Metadata::new();
        for (key, value) in self.metadata.iter() {
            let key = match key.strip_prefix(&old) {
                Some(rest) => format!("{name}.{rest}"),
                None => key.to_owned(),
            };
            metadata.insert(key, value.clone());
        }
        metadata.insert("general.architecture", name);
        self.metadata = metadata;
        if !name.starts_with("bitnet") {
            self.tensors.retain(|tensor| !tensor.0.contains("sub_norm"));
        }
        self
    }
}

fn projection(part: &str) -> String {
    format!("blk.0.{part}.weight")
}

/// Numbers encoded in a float type.
fn numbers(ty: TensorType, values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let dense = match ty {
        TensorType::F32 => DenseType::F32,
        TensorType::F16 => DenseType::F16,
        TensorType::Bf16 => DenseType::BF16,
        other => panic!("{other}"),
    };
    let values: Vec<f32> = values.into_iter().collect();
    let mut bytes = vec![0; dense.row_len(values.len()).unwrap()];
    // An infinity, which a test inserts on purpose, cannot be packed.
    if dense.pack_row(&values, &mut bytes).is_err() {
        assert_eq!((ty, values[0]), (TensorType::F16, f32::INFINITY));
        bytes = 0x7c00u16.to_le_bytes().to_vec();
    }
    bytes
}

/// TQ2_0, with a scale for every block.
fn tq2_0(trits: &[i8], scale: impl Fn(usize) -> f32) -> Vec<u8> {
    let block = |(i, trits): (usize, &[i8])| {
        let code = |at: usize| (trits[at] + 1) as u8;
        let byte = |m: usize| {
            (0..4).fold(0, |byte, l| byte | code(m / 32 * 128 + 32 * l + m % 32) << (2 * l))
        };
        let scale = numbers(TensorType::F16, [scale(i)]);
        (0..64).map(byte).chain(scale).collect::<Vec<u8>>()
    };
    trits.chunks(256).enumerate().flat_map(block).collect()
}

/// TQ1_0, with a scale for every block.
fn tq1_0(trits: &[i8], scale: impl Fn(usize) -> f32) -> Vec<u8> {
    let block = |(i, trits): (usize, &[i8])| {
        let byte = |places: Vec<usize>| {
            let digits = (0..5).map(|n| places.get(n).map_or(0, |at| (trits[*at] + 1) as u32));
            (digits.fold(0, |number, digit| 3 * number + digit) * 256).div_ceil(243) as u8
        };
        let first = (0..32).map(|m| byte((0..5).map(|n| 32 * n + m).collect()));
        let second = (0..16).map(|m| byte((0..5).map(|n| 160 + 16 * n + m).collect()));
        let last = (0..4).map(|m| byte((0..4).map(|n| 240 + 4 * n + m).collect()));
        let scale = numbers(TensorType::F16, [scale(i)]);
        first.chain(second).chain(last).chain(scale).collect::<Vec<u8>>()
    };
    trits.chunks(256).enumerate().flat_map(block).collect()
}

/// A folder with a model file and the files that the commands read and write.
struct Place {
    folder: TempDir,
}

impl Place {
    fn of(file: &File) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        file.write(&place.model());
        fs::write(place.path("text"), "The river was wide, and the boat was small.").unwrap();
        let item = r#"{"context_ids": [1, 2], "continuation_ids": [3, 4]}"#;
        fs::write(place.path("items"), item).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("model.gguf")
    }

    /// The output of each command for the model.
    fn outputs(&self) -> Vec<(String, Output)> {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../trilobite-eval/tests/data");
        let path = |name| self.path(name).display().to_string();
        let (npy, gguf, results) = (path("out.npy"), path("out.gguf"), path("results"));
        let (text, items) = (path("text"), path("items"));
        let commands: [&[&str]; 8] = [
            &["logits", "--tokens", "1,2,3", "-o", &npy],
            &["run", "--tokens", "1,2,3", "-n", "2", "--temp", "0", "--ids"],
            &["score", "-i", &items],
            &["perplexity", "--ctx", "16", "--file", &text],
            &[
                "eval",
                "--any-data",
                "--tasks=arc_easy",
                "--limit=1",
                "--data",
                data,
                "-o",
                &results,
            ],
            &["convert", "--force", "-o", &gguf],
            &["inspect"],
            &["inspect", "--json"],
        ];
        let run = |args: &[&str]| {
            let output = command(args).arg(self.model()).output().unwrap();
            (args[..args.len().min(2)].join(" "), output)
        };
        commands.map(run).into()
    }

    /// Asserts that every command refuses the model with one line that contains these texts, and
    /// writes nothing.
    #[track_caller]
    fn is_refused(&self, named: &[&str]) {
        for (command, output) in self.outputs() {
            let said = String::from_utf8_lossy(&output.stderr);
            let right = output.status.code() == Some(1) && said.lines().count() == 1;
            assert!(right && said.starts_with("error: "), "{command}: {output:?}");
            assert!(output.stdout.is_empty(), "{command}: {output:?}");
            for part in named {
                assert!(said.contains(part), "{command}: {part} is not in: {said}");
            }
        }
        assert!(["out.npy", "out.gguf"].iter().all(|name| !self.path(name).exists()));
    }

    /// Asserts that every command accepts the model and prints these notes, and that its logits
    /// equal those of its conversion. Returns the logits.
    #[track_caller]
    fn runs(&self, notes: &[&str]) -> Vec<u8> {
        for (command, output) in self.outputs() {
            assert!(output.status.success(), "{command}: {output:?}");
            let text = match command.split(' ').next() {
                Some("convert" | "inspect") => output.stdout,
                _ => output.stderr,
            };
            let said = String::from_utf8(text).unwrap();
            let told =
                ["nothing but zeros", "projections are dense"].map(|n| said.matches(n).count());
            assert_eq!(told.iter().sum::<usize>(), notes.len(), "{command}: {said}");
            for note in notes {
                assert!(said.contains(note), "{command}: {note} is not in: {said}");
            }
        }
        let direct = logits(&self.model(), &TOKENS, &[], &[]).unwrap();
        let converted = logits(&self.path("out.gguf"), &TOKENS, &[], &[]).unwrap();
        assert!(direct == converted, "the conversion computes something else");
        direct
    }
}

#[track_caller]
fn refused(file: &File, named: &[&str]) {
    Place::of(file).is_refused(named);
}

#[track_caller]
fn runs(file: &File, notes: &[&str]) -> Vec<u8> {
    Place::of(file).runs(notes)
}

const ARCHITECTURES: [&str; 3] = ["bitnet-b1.58", "bitnet-25", "bitnet"];
const FLOATS: [TensorType; 3] = [TensorType::F32, TensorType::F16, TensorType::Bf16];

#[test]
fn masters_put_back_are_refused() {
    for (i, part) in PROJECTIONS.into_iter().enumerate() {
        let mut file = File::foreign().of_architecture(ARCHITECTURES[i % 3]);
        let ty = FLOATS[i % 3];
        file.store(&projection(part), ty, |trits, scale| {
            let master =
                |(at, trit): (usize, &i8)| (f32::from(*trit) + (at % 7) as f32 / 16.0) * scale;
            numbers(ty, trits.iter().enumerate().map(master))
        });
        let said = format!("tensor \"{}\" is {ty}", projection(part));
        refused(&file, &["model.gguf", &said, "--quantize absmean"]);
    }
}

#[test]
fn trits_written_as_numbers_are_refused_and_can_be_packed() {
    let mut base = File::foreign();
    // Scales that every type can represent.
    for part in PROJECTIONS {
        let (_, _, _, bytes) = base.get(&projection(part));
        let codes = bytes.len() - ternary::TAIL;
        bytes[codes..].copy_from_slice(&ternary::tail(0.75));
    }
    let expected = runs(&base, &[]);
    for ty in FLOATS {
        for parts in [&PROJECTIONS[..], &PROJECTIONS[4..5]] {
            let mut file = base.clone();
            for part in parts {
                file.store(&projection(part), ty, |trits, scale| {
                    numbers(ty, trits.iter().map(|trit| f32::from(*trit) * scale))
                });
            }
            let place = Place::of(&file);
            let said = format!("tensor \"{}\" is {ty}", projection(parts[0]));
            place.is_refused(&[&said, "--quantize absmean"]);
            let out = place.path("packed.gguf");
            let mut convert = command(["convert", "--quantize", "absmean", "-o"]);
            stdout(convert.arg(&out).arg(place.model())).unwrap();
            assert!(logits(&out, &TOKENS, &[], &[]).unwrap() == expected, "{ty}");
        }
    }
}

#[test]
fn a_dense_projection_may_lack_the_norm_that_those_of_other_layers_have() {
    for layer in [0, 1] {
        let mut file = File::converted("llama_bitnet_norms", "i2_s");
        let name = format!("blk.{layer}.ffn_down.weight");
        file.store(&name, TensorType::F32, |trits, scale| {
            numbers(TensorType::F32, trits.iter().map(|trit| f32::from(*trit) * scale))
        });
        file.metadata.insert("trilobite.dense_projections", vec![name]);
        let notes = ["projections are dense"];
        let normed = runs(&file, &notes);
        file.tensors.retain(|tensor| tensor.0 != format!("blk.{layer}.ffn_down_norm_in.weight"));
        assert!(runs(&file, &notes) != normed, "{layer}");
    }
}

#[test]
fn weights_beside_their_scales_run() {
    let base = File::foreign();
    let expected = runs(&base, &[]);
    for ty in [TensorType::F32, TensorType::F16, TensorType::I2S] {
        let mut file = base.clone();
        let name = projection("ffn_up");
        let (_, scale) = file.trits(&name);
        match ty {
            TensorType::I2S => {
                let (_, _, _, bytes) = file.get(&name);
                let codes = bytes.len() - ternary::TAIL;
                bytes[codes..].copy_from_slice(&ternary::tail(1.0));
            }
            _ => file.store(&name, ty, |trits, _| {
                numbers(ty, trits.iter().map(|trit| f32::from(*trit)))
            }),
        }
        let of_scale = "blk.0.ffn_up.scale".to_owned();
        file.tensors.push((of_scale, TensorType::F32, vec![1], numbers(TensorType::F32, [scale])));
        assert!(runs(&file, &[]) == expected, "{ty}");
        if ty != TensorType::I2S {
            let weights = &mut file.get(&name).3;
            let half = numbers(ty, [0.5]);
            weights[..half.len()].copy_from_slice(&half);
            refused(&file, &["blk.0.ffn_up.weight", "holds 0.5 at row 0, column 0"]);
        }
    }
}

#[test]
fn blocks_of_trits_are_ternary_if_they_agree_on_their_scale() {
    type Pack = fn(&[i8], &dyn Fn(usize) -> f32) -> Vec<u8>;
    let packs: [(TensorType, Pack); 2] = [
        (TensorType::Tq1_0, |trits, scale| tq1_0(trits, scale)),
        (TensorType::Tq2_0, |trits, scale| tq2_0(trits, scale)),
    ];
    let name = projection("attn_k");
    let mut base = File::foreign();
    let codes = base.get(&name).3.len() - ternary::TAIL;
    base.get(&name).3[codes..].copy_from_slice(&ternary::tail(0.5));
    let expected = runs(&base, &[]);
    for (ty, pack) in packs {
        let stored = |scale: &dyn Fn(usize) -> f32| {
            let mut file = base.clone();
            file.store(&name, ty, |trits, _| pack(trits, scale));
            file
        };
        assert!(runs(&stored(&|_| 0.5), &[]) == expected, "{ty}");
        let several = stored(&|block| if block == 7 { 0.25 } else { 0.5 });
        let said = format!("tensor \"{name}\" is {ty} with several scales");
        for arch in ARCHITECTURES {
            refused(&several.clone().of_architecture(arch), &[&said]);
        }
        refused(&stored(&|_| -0.5), &[&name, "-0.5"]);
        refused(&stored(&|_| f32::INFINITY), &[&name, "inf"]);
        refused(&stored(&|_| 0.0), &[&name, "is 0, expected a positive"]);
        // Bits that encode no trits.
        let mut damaged = stored(&|_| 0.5);
        damaged.get(&name).3[..3].fill(if ty == TensorType::Tq1_0 { 1 } else { 0xff });
        refused(&damaged, &[&name, "row 0, column 0"]);
    }
}

#[test]
fn a_model_is_bitnet_s_by_its_types_too() {
    let several = |trits: &[i8], _: f32| tq2_0(trits, |block| 0.25 + (block % 2) as f32);
    let as_f16 = |trits: &[i8], _: f32| {
        numbers(TensorType::F16, trits.iter().map(|trit| f32::from(*trit) * 0.5))
    };
    let llama = || File::foreign().of_architecture("llama");
    runs(&llama(), &[]);
    let (q, v) = (projection("attn_q"), projection("attn_v"));
    let said = format!("tensor \"{v}\" is");
    let mut file = llama();
    file.store(&v, TensorType::F16, as_f16);
    refused(&file, &[&said, "F16"]);
    file.metadata.insert("trilobite.dense_projections", vec![v.clone()]);
    runs(
        &file,
        &["1 of 7 projections are dense, and their activations are not quantised: blk.0.attn_v"],
    );
    let mut file = llama();
    file.store(&v, TensorType::Tq2_0, several);
    refused(&file, &[&said, "several scales"]);

    // Other programs quantise to blocks of trits as to any other blocks.
    let mut dense = llama();
    for part in PROJECTIONS {
        dense.store(&projection(part), TensorType::F16, as_f16);
    }
    let file = dense.clone();
    runs(&file, &[]);
    let mut rounded = dense.clone();
    (rounded.get(&q).1, rounded.get(&q).3) = (TensorType::Tq2_0, llama().with(&q, several));
    runs(&rounded, &[]);
    let one = |trits: &[i8], _: f32| tq2_0(trits, |_| 0.25);
    (rounded.get(&q).1, rounded.get(&q).3) = (TensorType::Tq2_0, llama().with(&q, one));
    runs(&rounded, &["6 of 7 projections are dense"]);
    // Their codes are checked as well.
    let mut damaged = dense;
    (damaged.get(&q).1, damaged.get(&q).3) = (TensorType::Tq2_0, llama().with(&q, several));
    damaged.get(&q).3[66] = 0x55 | 0x0c;
    refused(&damaged, &[&q, "row 1, column 32"]);
}

#[test]
fn what_a_file_names_may_be_dense() {
    let mut file = File::foreign();
    let v = projection("attn_v");
    file.store(&v, TensorType::Bf16, |trits, _| {
        numbers(TensorType::Bf16, trits.iter().map(|trit| f32::from(*trit) * 0.5))
    });
    // The same rules apply to files of every program.
    file.metadata.insert("trilobite.version", "0.1.0");
    refused(&file, &[&v, "BF16", "trilobite.dense_projections"]);
    file.metadata.insert("trilobite.dense_projections", vec![projection("attn_q")]);
    refused(&file, &[&v]);
    file.metadata.insert("trilobite.dense_projections", vec![v]);
    runs(&file, &["1 of 7 projections are dense"]);
    file.metadata.insert("trilobite.dense_projections", 1u32);
    refused(&file, &["trilobite.dense_projections"]);
}

#[test]
fn codes_that_stand_for_nothing_are_refused_in_every_layout() {
    let cases = [
        (File::foreign(), "blk.0.attn_k.weight", 32, 0xff, "row 0, column 128"),
        (
            File::converted("bitnet_odd_shape", "auto"),
            "blk.1.ffn_up.weight",
            32,
            0x75,
            "row 1, column 32",
        ),
        (
            File::converted("bitnet_odd_shape", "t5_3"),
            "blk.1.attn_q.weight",
            33,
            0x0f,
            "row 1, column 3",
        ),
        (
            File::converted("bitnet_odd_shape", "sparse"),
            "blk.0.ffn_down_t.weight",
            0,
            0xd5,
            "row 0, column 0",
        ),
    ];
    for (mut file, name, at, code, place) in cases {
        runs(&file, &[]);
        file.get(name).3[at] = code;
        refused(&file, &[name.trim_end_matches("_t.weight"), place]);
    }
}

#[test]
fn zeros_run_whatever_their_scale_and_are_told() {
    let parts = ["ffn_gate", "ffn_up", "ffn_down"];
    let zeros = |scale: f32, parts: &[&str]| {
        let mut file = File::foreign();
        for part in parts {
            let (_, _, _, bytes) = file.get(&projection(part));
            let codes = bytes.len() - ternary::TAIL;
            bytes[..codes].fill(0x55);
            bytes[codes..].copy_from_slice(&ternary::tail(scale));
        }
        file
    };
    let note = "nothing but zeros in blk.0.ffn_gate, blk.0.ffn_up, blk.0.ffn_down:";
    let expected = runs(&zeros(1.0, &parts), &[note]);
    assert!(runs(&zeros(0.0, &parts), &[note]) == expected);
    for scale in [0.0, 2.0] {
        let mut file = zeros(1.0, &parts);
        for (i, part) in parts.into_iter().enumerate() {
            match i {
                0 => file.store(&projection(part), TensorType::Tq1_0, |t, _| tq1_0(t, |_| scale)),
                _ => file.store(&projection(part), TensorType::Tq2_0, |t, _| tq2_0(t, |_| scale)),
            }
        }
        assert!(runs(&file, &[note]) == expected, "{scale}");
    }
    for scale in [f32::NAN, f32::INFINITY, -1.0] {
        refused(
            &zeros(scale, &parts[..1]),
            &["blk.0.ffn_gate.weight", "expected a positive finite"],
        );
    }
    let mut file = zeros(0.0, &parts);
    file.get("blk.0.ffn_gate.weight").3[5] = 0x56;
    refused(&file, &["blk.0.ffn_gate.weight", "expected a positive finite number"]);
    // In other layouts as well.
    for layout in ["t5_3", "sparse", "i2_s"] {
        let place = Place::of(&zeros(0.0, &parts));
        let out = place.path("packed.gguf");
        convert_to(layout, &place.model(), &out).unwrap();
        assert!(runs(&File::read(&out), &[note]) == expected, "{layout}");
    }
}

impl File {
    /// Stores a projection as the bytes that encode its trits and scale.
    fn with(mut self, name: &str, bytes: impl Fn(&[i8], f32) -> Vec<u8>) -> Vec<u8> {
        let (trits, scale) = self.trits(name);
        bytes(&trits, scale)
    }
}
