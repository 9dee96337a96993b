//! Partitions: how a user writes them, and the shapes that have found the bugs of other systems.
//!
//! ```text
//!   1|23    1 and {2,3} do not hear each other      1>2     2 does not hear 1
//!   1|3     1 and 3 do not; 2 hears both (bridge)   1>23    2 and 3 do not hear 1
//!   ring    each hears its neighbours only          bridge  two halves, one node hears both
//! ```

use std::collections::BTreeSet;

/// Who is not heard by whom.
pub type Cuts = BTreeSet<(u64, u64)>;

/// Nobody of one side hears anybody of another.
pub fn sides(sides: &[Vec<u64>]) -> Cuts {
    let mut cuts = Cuts::new();
    for (at, one) in sides.iter().enumerate() {
        for other in &sides[at + 1..] {
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                cuts.extend([(a, b), (b, a)]);
            }
        }
    }
    cuts
}

/// Each node hears only those near it on a ring: a majority, and no two nodes the same one. Three nodes have no
/// such ring, for all are neighbours: it becomes a bridge.
pub fn ring(nodes: &[u64]) -> Cuts {
    let count = nodes.len();
    if count <= 3 {
        return bridge(nodes);
    }
    // So many neighbours on each side leave a majority.
    let near = (count / 2).div_ceil(2);
    let far = |a: usize, b: usize| {
        let gap = a.abs_diff(b);
        gap.min(count - gap) > near
    };
    let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    pairs.filter(|(a, b)| far(*a, *b)).map(|(a, b)| (nodes[a], nodes[b])).collect()
}

/// Two halves, with the middle node between them: it hears both.
pub fn bridge(nodes: &[u64]) -> Cuts {
    let half = nodes.len() / 2;
    let second = if nodes.len() < 3 { half } else { half + 1 };
    sides(&[nodes[..half].to_vec(), nodes[second..].to_vec()])
}

/// A partition as the user writes it; several are separated by blanks.
pub fn parse(text: &str, nodes: &[u64]) -> Result<Cuts, String> {
    let mut cuts = Cuts::new();
    for word in text.split_whitespace() {
        cuts.extend(parse_one(word, nodes)?);
    }
    if cuts.is_empty() {
        return Err("it cuts nothing: write it like 1|23, 1>2, ring or bridge".to_string());
    }
    Ok(cuts)
}

fn parse_one(word: &str, nodes: &[u64]) -> Result<Cuts, String> {
    match word {
        "ring" => return Ok(ring(nodes)),
        "bridge" => return Ok(bridge(nodes)),
        _ => {}
    }
    if word.contains('>') && word.contains('|') {
        return Err(format!("'{word}' is two things at once: write 1|23, or 1>2"));
    }
    if let Some((from, to)) = word.split_once('>') {
        let (from, to) = (group(from, word, nodes)?, group(to, word, nodes)?);
        apart(&[from.clone(), to.clone()])?;
        return Ok(from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).collect());
    }
    let mut groups = word.split('|').map(|side| group(side, word, nodes)).collect::<Result<Vec<_>, _>>()?;
    if groups.len() == 1 {
        let rest = nodes.iter().copied().filter(|node| !groups[0].contains(node)).collect();
        groups.push(rest);
    }
    apart(&groups)?;
    Ok(sides(&groups))
}

/// `12` and `1,2` are the nodes 1 and 2; `n` before a number is allowed.
fn group(text: &str, word: &str, nodes: &[u64]) -> Result<Vec<u64>, String> {
    let bad = || format!("'{word}' is not a partition: write it like 1|23, 1>2, ring or bridge");
    let numbers: Result<Vec<u64>, _> = if text.contains(',') {
        text.split(',').map(|part| part.trim_start_matches('n').parse::<u64>().map_err(|_| bad())).collect()
    } else {
        let digits = text.chars().filter(|c| *c != 'n');
        digits.map(|c| c.to_digit(10).map(u64::from).ok_or_else(bad)).collect()
    };
    let numbers = numbers?;
    if numbers.is_empty() {
        return Err(bad());
    }
    match numbers.iter().find(|number| !nodes.contains(number)) {
        None => Ok(numbers),
        Some(number) => {
            Err(format!("there is no node {number}: they are numbered 1 to {}", nodes.last().unwrap_or(&0)))
        }
    }
}

fn apart(sides: &[Vec<u64>]) -> Result<(), String> {
    for (at, one) in sides.iter().enumerate() {
        if let Some(node) = one.iter().find(|node| sides[at + 1..].iter().any(|other| other.contains(node))) {
            return Err(format!("node {node} is on both sides"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(text: &str, count: u64) -> String {
        let nodes: Vec<u64> = (1..=count).collect();
        match parse(text, &nodes) {
            Ok(cuts) => cuts.iter().map(|(a, b)| format!("{a}>{b}")).collect::<Vec<_>>().join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn what_a_user_writes() {
        assert_eq!(cuts("1|23", 3), "1>2 1>3 2>1 3>1");
        assert_eq!(cuts("1", 3), "1>2 1>3 2>1 3>1");
        assert_eq!(cuts("n1|n2,n3", 3), "1>2 1>3 2>1 3>1");
        assert_eq!(cuts("1>2", 3), "1>2");
        assert_eq!(cuts("1>23 3>1", 3), "1>2 1>3 3>1");
        assert_eq!(cuts("1|3", 3), "1>3 3>1");
        assert_eq!(cuts("1|2|3", 3), "1>2 1>3 2>1 2>3 3>1 3>2");
        assert_eq!(cuts("bridge", 3), "1>3 3>1");
        assert_eq!(cuts("ring", 5), "1>3 1>4 2>4 2>5 3>1 3>5 4>1 4>2 5>2 5>3");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, part) in [
            ("1|7", "there is no node 7: they are numbered 1 to 3"),
            ("1|12", "node 1 is on both sides"),
            ("1>1", "node 1 is on both sides"),
            ("1|", "not a partition"),
            ("left|right", "not a partition"),
            ("1|2>3", "two things at once"),
            ("", "it cuts nothing"),
            ("123", "it cuts nothing"),
            ("1,x|2", "not a partition"),
        ] {
            let why = cuts(text, 3);
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn in_a_ring_and_over_a_bridge_somebody_has_a_majority() {
        for count in 3..=9u64 {
            let nodes: Vec<u64> = (1..=count).collect();
            let hears = |cuts: &Cuts, a: u64| nodes.iter().filter(|b| !cuts.contains(&(**b, a))).count();
            let (ring, bridge) = (ring(&nodes), bridge(&nodes));
            assert!(!ring.is_empty() && !bridge.is_empty());
            assert!(nodes.iter().any(|a| hears(&ring, *a) > nodes.len() / 2), "ring of {count}");
            assert!(nodes.iter().any(|a| hears(&bridge, *a) > nodes.len() / 2), "bridge of {count}");
            // Both ways alike: an answer can return where a question came from.
            assert!(ring.iter().chain(&bridge).all(|(a, b)| {
                (ring.contains(&(*b, *a)) && ring.contains(&(*a, *b)))
                    || (bridge.contains(&(*b, *a)) && bridge.contains(&(*a, *b)))
            }));
        }
    }
}
