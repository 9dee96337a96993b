//! Every seed and every file of the corpus, and mutated copies of them, through its target. Needs no
//! fuzzer and no nightly.

use std::fs;
use std::path::PathBuf;

use corpus::{TARGETS, Target};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many mutated copies of each input.
const COPIES: u32 = 60;

/// What a corpus may hold: it is kept small, so that it is read and not just stored.
const FILES_MAX: usize = 40;
const BYTES_MAX: u64 = 100 << 10;

fn fuzz() -> PathBuf {
    PathBuf::from("../../fuzz")
}

fn files(target: &Target) -> Vec<PathBuf> {
    let folder = fuzz().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

/// Changes a few bytes: flips, ends, lengths, parts cut out, doubled or moved.
fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        let end = rng.random_range(at..=bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => bytes.insert(at, rng.random()),
            // A length or a number at its end.
            _ => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
        }
    }
}

#[test]
fn every_input_and_its_mutations_keep_the_promises() {
    for target in TARGETS {
        let mut inputs: Vec<(String, Vec<u8>)> = files(target)
            .into_iter()
            .map(|path| (path.display().to_string(), fs::read(&path).expect("readable")))
            .collect();
        inputs.extend((0..).zip((target.seeds)()).map(|(at, seed)| (format!("seed {at}"), seed)));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (name, bytes) in inputs {
            (target.run)(&bytes);
            for copy in 0..COPIES {
                let mut bytes = bytes.clone();
                mutate(&mut rng, &mut bytes);
                let result = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(result.is_ok(), "{}: {name}, mutation {copy}: {bytes:02x?}", target.name);
            }
        }
        (target.run)(&[]);
    }
}

/// Decoders must do more than refuse: a seed that is refused tests nothing.
#[test]
fn seeds_are_understood() {
    for seed in corpus::seeds::paxos_message() {
        assert!(paxos::Message::decode(seed.into()).is_ok());
    }
    for seed in corpus::seeds::txn_message() {
        assert!(txn::NodeMessage::decode(seed.into()).is_ok());
    }
    for seed in corpus::seeds::sql_text() {
        let text = String::from_utf8(seed).expect("text");
        assert!(sql::parse::parse(&text).is_ok(), "{text}: {:?}", sql::parse::parse(&text));
    }
    for seed in corpus::seeds::history_lines() {
        for line in String::from_utf8(seed).expect("text").lines() {
            check::Event::parse(line).expect(line);
        }
    }
}

#[test]
fn each_target_has_a_fuzzer_and_a_small_corpus() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for target in TARGETS {
        let folder = fuzz().join("corpus").join(target.name);
        if update {
            fs::create_dir_all(&folder).expect("a folder");
            for (at, seed) in (0..).zip((target.seeds)()) {
                fs::write(folder.join(format!("seed-{at:02}")), seed).expect("written");
            }
        }
        assert!(fuzz().join("fuzz_targets").join(format!("{}.rs", target.name)).exists(), "{}", target.name);
        let files = files(target);
        let bytes: u64 = files.iter().map(|file| fs::metadata(file).expect("readable").len()).sum();
        assert!(!files.is_empty() && files.len() <= FILES_MAX, "{}: {} files", target.name, files.len());
        assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", target.name);
    }
}
