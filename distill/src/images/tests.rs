#![allow(clippy::unwrap_used)]

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// A picture of so many pixels, as a file has it.
fn picture(width: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(width, 3).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn add(tar: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
}

/// A tar with these members, each a picture as wide as its place, from 1.
fn tar_of(names: &[&str]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    names.iter().zip(1..).for_each(|(name, width)| add(&mut tar, name, &picture(width)));
    tar.into_inner().unwrap()
}

/// A member with a header that the crate wouldn't write.
fn tar_of_raw(name: &str, kind: EntryType) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, std::io::empty()).unwrap();
    add(&mut tar, "fine.png", &picture(1));
    tar.into_inner().unwrap()
}

fn folder_of(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn names(images: &Images) -> Vec<String> {
    images.names(Unreadable::Refused).unwrap()
}

fn told<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().unwrap())
}

#[test]
fn shards_are_a_file_a_folder_a_pattern_or_a_list_in_the_order_of_their_members() {
    let long = format!("{}/long.png", "folder".repeat(30));
    let folder = folder_of(&[
        ("a-0.tar", tar_of(&["b.png", "./a.jpg", &long])),
        ("a-1.tar", tar_of(&["0.json", "._c.png", "c.webp"])),
        ("shards.txt", b"a-0.tar\n\na-1.tar\n".to_vec()),
    ]);
    let expected = ["b.png", "a.jpg", &long, "c.webp"];
    for name in ["", "a-{0..1}.tar", "shards.txt"] {
        let images = Images::open(&folder.path().join(name)).unwrap();
        assert_eq!(names(&images), expected, "{name}");
        for (name, width) in expected.iter().zip([1, 2, 3, 3]) {
            assert_eq!(images.size_of(name).unwrap(), (width, 3), "{name}");
            assert_eq!(images.picture(name, Some([width, 3])).unwrap().width(), width);
        }
        assert_eq!(images.path_of("a.jpg"), folder.path().join("a-0.tar/a.jpg"));
    }
    let images = Images::open(&folder.path().join("a-1.tar")).unwrap();
    assert_eq!(names(&images), ["c.webp"]);
    assert!(told(Images::open(&folder.path().join("a-{0..2}.tar"))).contains("1 of 3 shards are not there"));
}

#[test]
fn a_folder_with_pictures_or_folders_in_it_is_one_of_files() {
    let folder = folder_of(&[("a.tar", tar_of(&["a.png"])), ("b.png", picture(2))]);
    assert_eq!(names(&Images::open(folder.path()).unwrap()), ["b.png"]);
    fs::rename(folder.path().join("b.png"), folder.path().join("b.txt")).unwrap();
    assert_eq!(names(&Images::open(folder.path()).unwrap()), ["a.png"]);
    fs::create_dir(folder.path().join("more")).unwrap();
    assert!(!Images::open(folder.path()).unwrap().has("a.png"));
}

#[test]
fn a_list_names_photographs_beside_it() {
    let folder = folder_of(&[
        ("a.png", picture(1)),
        ("b.png", picture(2)),
        ("some.txt", b"b.png\r\n".to_vec()),
        ("twice.txt", b"b.png\nb.png".to_vec()),
        ("mixed.txt", b"b.png\na.tar".to_vec()),
    ]);
    let open = |name: &str| Images::open(&folder.path().join(name));
    let some = open("some.txt").unwrap();
    assert_eq!((names(&some), some.size_of("b.png").unwrap()), (vec!["b.png".to_owned()], (2, 3)));
    assert!(told(open("twice.txt")).contains("lists b.png twice"));
    assert!(told(open("mixed.txt")).contains("shards and photographs"));
    assert!(told(open("a.png")).contains("neither a folder of photographs"));
}

#[test]
fn a_photograph_is_found_by_its_key_where_only_one_has_it() {
    let folder = folder_of(&[("a.tar", tar_of(&["x/1.jpeg", "x/2.left.png", "x/2.right.png", "1.png"]))]);
    let images = Images::open(&folder.path().join("a.tar")).unwrap();
    let width = |name: &str| images.size_of(name).ok().map(|(width, _)| width);
    assert_eq!(["x/1.jpg", "./x/1.jpeg", "1.jpg", "x/2.right.png"].map(width), [1, 1, 4, 3].map(Some));
    assert_eq!(["x/2.png", "x/3.jpg", "2.left.png"].map(width), [None; 3]);
    assert!(told(images.size_of("x/3.jpg")).contains("no shard has a member of this name"));
}

#[test]
fn what_is_no_photograph_is_told_where_it_is_needed_and_may_be_left_out() {
    let twice =
        |other: &str| folder_of(&[("a.tar", tar_of(&["fine.png", "b.png"])), ("b.tar", tar_of(&[other]))]);
    let one = |bytes: Vec<u8>| folder_of(&[("a.tar", bytes)]);
    for (folder, name, reason) in [
        (twice("b.png"), "b.png", "both have it"),
        (one(tar_of(&["fine.png", "b.png", "b.png"])), "b.png", "two members of this name"),
        (one(tar_of_raw("link.png", EntryType::Symlink)), "link.png", "--dereference"),
        (one(tar_of_raw("hard.png", EntryType::Link)), "hard.png", "--hard-dereference"),
        (one(tar_of_raw("pipe.png", EntryType::Fifo)), "pipe.png", "is no file"),
        (one(tar_of_raw("/etc/a.png", EntryType::Regular)), "/etc/a.png", "absolute"),
        (one(tar_of_raw("../a.png", EntryType::Regular)), "../a.png", "leads upwards"),
        (one(tar_of_raw("./empty.png", EntryType::Regular)), "empty.png", "is not a usable picture"),
        (one(tar_of_raw("empty.png", EntryType::Regular)), "empty.png", "is not a usable picture"),
    ] {
        let images = Images::open(folder.path()).unwrap();
        assert!(names(&images).iter().any(|listed| listed == name), "{name}");
        let error = images.picture(name, None);
        assert!(Unreadable::Skipped.take(images.picture(name, None)).unwrap().is_none());
        let error = told(error);
        assert!(error.contains(reason) && error.contains("a.tar"), "{error}");
        assert!(images.picture("fine.png", None).is_ok(), "{name}");
    }
}

#[test]
fn a_shard_that_is_cut_off_or_damaged_gives_what_is_whole_and_is_told() {
    let whole = tar_of(&["a.png", "b.png"]);
    let mut damaged = whole.clone();
    damaged[1024] ^= 1;
    // A header and a picture of less than a block each, and two blocks of zeros.
    assert_eq!(whole.len(), 6 * 512);
    for (bytes, has, reason) in [
        (whole[..1550].to_vec(), vec!["a.png"], "cut off in its member b.png"),
        (whole[..1100].to_vec(), vec!["a.png"], "damaged or cut off behind 1024 bytes"),
        (whole[..1024].to_vec(), vec!["a.png"], "it has no end"),
        (whole[..2048].to_vec(), vec!["a.png", "b.png"], "it has no end"),
        (damaged, vec!["a.png"], "damaged or cut off"),
        (Vec::new(), vec![], "is empty"),
        (vec![0x1f, 0x8b, 8, 0], vec![], "is compressed by gzip"),
        (b"no tar at all".repeat(100), vec![], "is no tar file"),
    ] {
        let folder = folder_of(&[("a.tar", bytes), ("b.tar", tar_of(&["c.png"]))]);
        let images = Images::open(folder.path()).unwrap();
        let error = told(images.names(Unreadable::Refused));
        assert!(error.contains("a.tar") && error.contains(reason), "{error}");
        let skipped = images.names(Unreadable::Skipped).unwrap();
        let readable: Vec<&String> =
            skipped.iter().filter(|name| images.picture(name, None).is_ok()).collect();
        assert_eq!(readable, [has, vec!["c.png"]].concat(), "{reason}");
        assert!(told(images.picture("z.png", None)).contains(reason), "it may have been in it");
    }
    let alone = folder_of(&[("a.tar", b"no tar at all".repeat(100))]);
    assert!(told(Images::open(alone.path())).contains("is no tar file"));
}

#[test]
fn tars_that_were_joined_are_one() {
    let folder = folder_of(&[("a.tar", [tar_of(&["a.png"]), tar_of(&["x.txt", "b.png"])].concat())]);
    let images = Images::open(folder.path()).unwrap();
    assert_eq!(
        (names(&images), images.size_of("b.png").unwrap()),
        (vec!["a.png".into(), "b.png".into()], (2, 3))
    );
}

#[test]
fn many_threads_read_more_shards_than_stay_open() {
    let shards: Vec<(String, Vec<u8>)> =
        (0..100).map(|shard| (format!("{shard:03}.tar"), tar_of(&[&format!("{shard:03}.png")]))).collect();
    let files: Vec<(&str, Vec<u8>)> =
        shards.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let folder = folder_of(&files);
    let images = Images::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let images = &images;
            scope.spawn(move || {
                for shard in (0..100).map(|shard| (shard * 37 + thread * 11) % 100) {
                    assert_eq!(images.size_of(&format!("{shard:03}.png")).unwrap(), (1, 3));
                }
            });
        }
    });
}
