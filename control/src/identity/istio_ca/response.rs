//! What the authority answers with: the leaf, intermediates, and at the end whom to trust.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Certificates from leaf to root; more are a loop or a mistake.
const CHAIN_MAX: usize = 16;

/// Roots in one bundle; while roots are replaced there are two or three.
const ROOTS_MAX: usize = 64;

/// A chain without its root, and the roots.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) trust_anchors: Vec<CertificateDer<'static>>,
}

/// Reads an answer: PEM texts, the leaf first and the roots, any number in one text, last.
///
/// An error says what was received, as in `answered with …`.
pub(super) fn read(texts: &[String]) -> Result<Received, String> {
    let (last, chain_texts) = match texts {
        [] => return Err("an empty chain".to_owned()),
        [_] => return Err("a certificate and no root to trust".to_owned()),
        [chain @ .., last] => (last, chain),
    };
    let mut chain = Vec::new();
    for (index, text) in chain_texts.iter().enumerate() {
        chain.extend(certificates(text, index)?);
    }
    if chain.len() > CHAIN_MAX {
        return Err(format!("a chain of {} certificates; {CHAIN_MAX} are possible", chain.len()));
    }
    let mut trust_anchors = Vec::new();
    for anchor in certificates(last, chain_texts.len())? {
        if !trust_anchors.contains(&anchor) {
            trust_anchors.push(anchor);
        }
    }
    if trust_anchors.len() > ROOTS_MAX {
        return Err(format!("{} roots; {ROOTS_MAX} are possible", trust_anchors.len()));
    }
    // Peers hold the roots themselves: they are not sent. A leaf that is its own root stays, to be judged.
    let leaf = chain.remove(0);
    chain.retain(|certificate| !trust_anchors.contains(certificate) && *certificate != leaf);
    chain.insert(0, leaf);
    Ok(Received { chain, trust_anchors })
}

fn certificates(text: &str, index: usize) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("no certificate in part {} (PEM is expected)", index + 1)),
        Err(error) => Err(format!("garbage in part {}: {error}", index + 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pem(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn answers_are_read_or_refused_with_what_they_were() {
        let [leaf, middle, root, other] = ["leaf", "middle", "root", "other"].map(pem);
        let all = |texts: &[&String]| texts.iter().map(|text| (*text).clone()).collect::<Vec<_>>();
        let (nothing, garbage) = (String::new(), "garbage".to_owned());
        let broken = leaf.replace("MI", "*I");
        let cut = leaf[..leaf.len() / 2].to_owned();
        let two = format!("{root}{other}");
        let thrice = format!("{root}{root}{root}");
        let many =
            root.repeat(2) + &(0..ROOTS_MAX).map(|n| pem(&format!("n{n}"))).collect::<String>();
        let long: Vec<_> = std::iter::repeat_n(&middle, CHAIN_MAX + 1).chain([&root]).collect();
        //  name                           answer                             chain, roots
        type Want = Result<(usize, usize), &'static str>;
        let rows: [(&str, Vec<String>, Want); 15] = [
            ("leaf and root", all(&[&leaf, &root]), Ok((1, 1))),
            ("an intermediate", all(&[&leaf, &middle, &root]), Ok((2, 1))),
            ("two roots in one text", all(&[&leaf, &middle, &two]), Ok((2, 2))),
            ("one root, thrice", all(&[&leaf, &thrice]), Ok((1, 1))),
            ("the root is in the chain, too", all(&[&leaf, &middle, &root, &two]), Ok((2, 2))),
            ("a chain in one text", all(&[&format!("{leaf}{middle}"), &root]), Ok((2, 1))),
            ("nothing at all", vec![], Err("an empty chain")),
            ("no root", all(&[&leaf]), Err("no root")),
            ("an empty leaf", all(&[&nothing, &root]), Err("no certificate in part 1")),
            ("an empty root", all(&[&leaf, &nothing]), Err("no certificate in part 2")),
            ("garbage", all(&[&leaf, &garbage, &root]), Err("no certificate in part 2")),
            ("broken base64", all(&[&broken, &root]), Err("garbage in part 1")),
            ("cut off", all(&[&cut, &root]), Err("garbage in part 1")),
            ("no end", all(&long), Err("a chain of 17")),
            ("too many roots", all(&[&leaf, &many]), Err("65 roots")),
        ];
        for (name, texts, want) in rows {
            match (read(&texts), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!((got.chain.len(), got.trust_anchors.len()), want, "{name}");
                }
                (Err(why), Err(want)) => assert!(why.contains(want), "{name}: {why}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(texts in proptest::collection::vec("(-----(BEGIN|END) CERTIFICATE-----|[A-Za-z=\n]{0,9}){0,6}", 0..5)) {
            let _ = read(&texts);
        }
    }
}
