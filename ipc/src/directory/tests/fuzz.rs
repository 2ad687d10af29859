//! Fuzz target: the directory's reader on memory that a router may have written, word by word.

use super::*;
use crate::fuzz::fuzz;

#[test]
fn whatever_stands_in_a_directory_a_picture_is_possible() {
    let sound: Vec<u64> = {
        let mut writer = writer();
        writer.refresh(&picture(3));
        writer.words().iter().map(|word| word.load(Ordering::Relaxed)).collect()
    };
    let words: Vec<AtomicU64> = sound.iter().map(|word| AtomicU64::new(*word)).collect();
    let tables = [PLACES.agents, PLACES.topics, PLACES.lanes, PLACES.classes];
    fuzz(2_000, |chance| {
        let mut changed = Vec::new();
        for _ in 0..=chance.below(12) {
            let index = match chance.below(4) {
                0 => chance.below(HEADER_WORDS / 8),
                1 => TOTALS_AT + chance.below(8),
                _ => {
                    let table = *chance.pick(&tables);
                    table.start + chance.below(2) * table.entry + chance.below(table.entry)
                }
            };
            let old = words[index].load(Ordering::Relaxed);
            let new = match chance.below(4) {
                0 => old ^ 1 << chance.below(64),
                // Half a word: most words are two numbers.
                1 => old & !0xFFFF_FFFF | chance.number(old) & 0xFFFF_FFFF,
                2 => old & 0xFFFF_FFFF | chance.number(old >> 32) << 32,
                _ => chance.number(old),
            };
            words[index].store(new, Ordering::Relaxed);
            changed.push(index);
        }
        if let Ok(places) = places(&words) {
            let picture = read(&words, &places);
            let all = [
                (picture.agents.len(), places.agents),
                (picture.topics.len(), places.topics),
                (picture.lanes.len(), places.lanes),
                (picture.classes.len(), places.classes),
            ];
            for (count, place) in all {
                assert!(count <= place.capacity);
                assert!((place.start + place.entry * place.capacity) * 8 <= DIRECTORY_BYTES);
            }
            let names = picture.agents.iter().map(|agent| &agent.name);
            for text in names.chain(picture.topics.iter().map(|topic| &topic.subject)) {
                assert!(text.len() <= WORD_BYTES_MAX && !text.chars().any(char::is_control));
            }
            for class in &picture.classes {
                let _ = (class.latency.count(), class.latency.quantile_ns(0.999));
            }
        }
        for index in changed {
            words[index].store(sound[index], Ordering::Relaxed);
        }
    });
}
