//! The live page in a real browser, with the demo's clip and student: `page/page.mjs` drives Debian's Chromium.
//!
//! Skipped, aloud, where Node.js, Chromium or playwright-core is missing (`make outputs-deps`). Pictures of the page lie in `target/page/` afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::*;

const CHROMIUM: &str = "/usr/bin/chromium";
const TOKEN: &str = "a-token-for-the-test-of-the-page";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where playwright-core is, or what is missing to drive a browser.
fn playwright() -> Result<PathBuf, String> {
    let playwright = checkout().join(".deps/web/node/node_modules/playwright-core");
    let has_node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_node {
        return Err("Node.js".to_owned());
    }
    if !Path::new(CHROMIUM).exists() {
        return Err(format!("Chromium ({CHROMIUM})"));
    }
    if playwright.exists() { Ok(playwright) } else { Err("playwright-core (.deps/web)".to_owned()) }
}

/// The shipped student's teacher, which words are typed with.
fn teacher() -> Option<PathBuf> {
    let teacher = checkout().join(".deps/teacher");
    teacher.join("config.json").exists().then_some(teacher)
}

/// The demo on a board that tells something, served.
fn serve(bench: &Bench, more: &str) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let demo = checkout().join("demo");
    let teacher = teacher().map_or_else(String::new, |teacher| format!("teacher = {teacher:?}\n"));
    let configuration = bench.write(
        &format!("page-{}.toml", address.port()),
        format!(
            "{teacher}name = \"Front door\"\nstudent = {:?}\nvocabulary = \"vocabularies/words.safetensors\"\n[publish]\njson = \"\"\n\
             [source]\nuri = {:?}\npacing = \"camera\"\nfps = 8\nloop = true\n\
             [http]\nlisten = \"{address}\"\nvocabularies = \"vocabularies\"\n{more}",
            demo.join("student.onnx"),
            demo.join("clip.mjpeg"),
        ),
    );
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.env("WORDSIGHT_BOARD_ROOT", bench.path("board")).stdout(Stdio::null());
    let folder = bench.path(&format!("page-{}", address.port()));
    fs::create_dir(&folder).unwrap();
    let mut running = Process::start(command, &folder);
    let listens = || {
        assert!(running.ended().is_none(), "it has ended: {}", running.stderr());
        TcpStream::connect(address).is_ok()
    };
    until_so(listens, || "it never listens".to_owned());
    (running, address)
}

#[test]
fn a_person_can_look_switch_and_log_in_on_the_page() {
    let playwright = match playwright() {
        Ok(playwright) => playwright,
        Err(missing) => {
            skip("the page in a browser", &format!("{missing} is not here"), "`make outputs-deps`");
            return;
        }
    };
    let bench = Bench::new();
    let demo = checkout().join("demo");
    for name in ["words", "other-words"] {
        let file = format!("{name}.safetensors");
        bench.write(&format!("vocabularies/{file}"), fs::read(demo.join(&file)).unwrap());
    }
    // In the space of another teacher.
    write_vocabulary(&bench.path("vocabularies/strangers.safetensors"), &[("red", RED)]);
    wordsight_board::fixtures::Board::OrinNano.write(&bench.path("board")).unwrap();
    let token = bench.write("token", TOKEN);
    fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
    fs::create_dir_all(&pictures).unwrap();
    let (_running, address) = serve(&bench, "");
    let (_locked, locked_address) = serve(&bench, "token_file = \"token\"\n");
    if teacher().is_none() {
        skip("typing words on the page", "the teacher is not here (.deps/teacher)", "`make teacher`");
    }
    let output = Command::new("node")
        .arg(checkout().join("tests/page/page.mjs"))
        .args([playwright.to_str().unwrap(), CHROMIUM])
        .args([format!("http://{address}/"), format!("http://{locked_address}/"), TOKEN.to_owned()])
        .arg(&pictures)
        .arg(if teacher().is_some() { "with-teacher" } else { "without-teacher" })
        .output()
        .unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{told}pictures of the page are in {}", pictures.display());
    assert!(output.status.success(), "{told}");
}

/// So many cameras, each of which sees a pattern of its own, served.
fn serve_cameras(bench: &Bench, number: usize) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let names =
        ["front door", "yard", "car park", "stairs", "shop", "loading bay, north-west", "roof", "cellar"];
    let camera = |place: usize| {
        let name = names.get(place).map_or_else(|| format!("aisle {place}"), |name| name.replace(',', ""));
        let pattern = ["bars", "ff0000", "0000ff", "noise"][place % 4];
        format!("[[camera]]\nname = {name:?}\nuri = \"test://{pattern}?width=640&height=360\"\n")
    };
    let cameras: String = (0..number).map(camera).collect();
    let configuration = bench.write_config(&format!(
        "[source]\npacing = \"camera\"\nfps = 5\n[engine]\nthreads = 1\n[publish]\njson = \"\"\nhealth = \"health.json\"\n\
         [http]\nlisten = \"{address}\"\n{cameras}"
    ));
    let running = bench.start(&configuration);
    running.health_when(|health| health["state"] == "running");
    (running, address)
}

#[test]
fn all_cameras_are_seen_on_one_page_and_one_of_them_large() {
    let Ok(playwright) = playwright() else {
        skip("the page of all cameras", "what drives a browser is not here", "`make outputs-deps`");
        return;
    };
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
    fs::create_dir_all(&pictures).unwrap();
    for number in [1, 4, 16] {
        let bench = Bench::new();
        let (_running, address) = serve_cameras(&bench, number);
        let output = Command::new("node")
            .arg(checkout().join("tests/page/cameras.mjs"))
            .args([
                playwright.to_str().unwrap(),
                CHROMIUM,
                &format!("http://{address}/"),
                &number.to_string(),
            ])
            .arg(&pictures)
            .output()
            .unwrap();
        let told =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{number} cameras: {told}");
    }
    println!("pictures of the page are in {}", pictures.display());
}
