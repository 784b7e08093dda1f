//! Compiles `shim.cpp`, which calls TensorRT (feature `tensorrt`), once for each family of headers that is found.
//!
//! Headers are looked for in `TENSORRT_INCLUDE_DIR` (one folder or several, with `:` between them) and nowhere else
//! when it is set; otherwise where JetPack and Debian's packages put them, and in `.deps/tensorrt/headers/*` of the
//! checkout, where `make tensorrt` puts those that are free to fetch. Of several sets of one family the oldest is
//! taken: within a family a program works with every library that is at least as new as its headers, and with any 10.x.

#[cfg(not(feature = "tensorrt"))]
fn main() {}

#[cfg(feature = "tensorrt")]
fn main() {
    if let Err(reason) = tensorrt::compile() {
        println!("cargo::error={reason}");
    }
}

#[cfg(feature = "tensorrt")]
mod tensorrt {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    const SHIM: &str = "src/tensorrt/shim.cpp";
    const VARIABLE: &str = "TENSORRT_INCLUDE_DIR";
    /// Stands in for CUDA's headers, which compiling needs nothing else of.
    const CUDA: &str = "src/tensorrt/cuda";

    /// Headers whose objects have the same layout: the kind of TensorRT and its major version.
    type Family = (&'static str, u32);

    pub fn compile() -> Result<(), String> {
        println!("cargo:rerun-if-env-changed={VARIABLE}");
        println!("cargo:rerun-if-changed={SHIM}");
        let mut families: BTreeMap<Family, (Vec<u32>, PathBuf)> = BTreeMap::new();
        for folder in folders()? {
            println!("cargo:rerun-if-changed={}", folder.join("NvInferVersion.h").display());
            let Some((family, version)) = read_version(&folder)? else { continue };
            let older = families.get(&family).is_none_or(|(known, _)| version < *known);
            if older {
                families.insert(family, (version, folder));
            }
        }
        if families.is_empty() {
            return Err(format!(
                "the feature `tensorrt` needs TensorRT's headers (10 or later, or RTX 1.5 or later): run `make \
                 tensorrt` in the checkout, or set {VARIABLE} to the folder that has NvInfer.h"
            ));
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
        for (family, (_, folder)) in &families {
            shim(family, folder)?;
        }
        let list = rust_list(families.keys());
        fs::write(out.join("families.rs"), list).map_err(|error| format!("cannot write families.rs: {error}"))
    }

    fn folders() -> Result<Vec<PathBuf>, String> {
        if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
            let named: Vec<PathBuf> = env::split_paths(&named).collect();
            return match named.iter().find(|folder| !folder.join("NvInfer.h").is_file()) {
                Some(folder) => Err(format!("{VARIABLE} names {}, which has no NvInfer.h", folder.display())),
                None => Ok(named),
            };
        }
        let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let mut folders = vec![
            PathBuf::from(format!("/usr/include/{architecture}-linux-gnu")),
            PathBuf::from("/usr/include"),
            PathBuf::from("/usr/local/tensorrt/include"),
        ];
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/tensorrt/headers");
        println!("cargo:rerun-if-changed={}", fetched.display());
        folders.extend(fs::read_dir(fetched).into_iter().flatten().flatten().map(|entry| entry.path()));
        folders.retain(|folder| folder.join("NvInfer.h").is_file());
        folders.sort();
        Ok(folders)
    }

    /// The family and version of a set of headers; `None` where it is too old to be served.
    fn read_version(folder: &Path) -> Result<Option<(Family, Vec<u32>)>, String> {
        let path = folder.join("NvInferVersion.h");
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let number = |name: &str| -> Option<u32> {
            text.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some("#define") && words.next() == Some(name))
                    .then(|| words.next()?.parse().ok())
                    .flatten()
            })
        };
        for (kind, suffix) in [("rtx", "RTX"), ("enterprise", "ENTERPRISE"), ("enterprise", "")] {
            let names = ["MAJOR", "MINOR", "PATCH"].map(|part| match suffix {
                "" => format!("NV_TENSORRT_{part}"),
                suffix => format!("TRT_{part}_{suffix}"),
            });
            let [Some(major), Some(minor), Some(patch)] = names.map(|name| number(&name)) else { continue };
            let served = if kind == "rtx" { (major, minor) >= (1, 5) } else { major >= 10 };
            return Ok(served.then(|| ((kind, major), vec![major, minor, patch])));
        }
        Err(format!("{} names no version", path.display()))
    }

    fn shim((kind, major): &Family, headers: &Path) -> Result<(), String> {
        let family = format!("{kind}_{major}");
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").file(SHIM).warnings(true).extra_warnings(true);
        build.flag("-Wno-deprecated-declarations");
        for folder in [headers, Path::new(CUDA)] {
            build.flag("-isystem").flag(folder.as_os_str());
        }
        // Inline functions of two families must not become one in the linker.
        build.define("nvinfer1", Some(format!("nvinfer1_{family}").as_str()));
        build.define("nvonnxparser", Some(format!("nvonnxparser_{family}").as_str()));
        build.define("WORDSIGHT_FAMILY", Some(format!("wordsight_tensorrt_{family}").as_str()));
        build.try_compile(&format!("wordsight_tensorrt_{family}")).map_err(|error| {
            format!("cannot compile {SHIM} against {}: {error}", headers.display()).replace('\n', " ")
        })
    }

    /// Rust's list of the families.
    fn rust_list<'a>(families: impl Iterator<Item = &'a Family> + Clone) -> String {
        let name = |(kind, major): &Family| format!("wordsight_tensorrt_{kind}_{major}");
        let declared: String = families
            .clone()
            .map(|family| format!("    fn {}() -> *const Functions;\n", name(family)))
            .collect();
        let called: Vec<String> = families.map(|family| format!("{}()", name(family))).collect();
        format!(
            "unsafe extern \"C\" {{\n{declared}}}\n\n/// The doors that this program was built with.\npub(super) fn \
             families() -> Vec<&'static Functions> {{\n    // SAFETY: each returns a pointer to a constant.\n    \
             unsafe {{ [{}].into_iter().map(|functions| &*functions).collect() }}\n}}\n",
            called.join(", ")
        )
    }
}
