//! Tokens with their sources, and fingerprints.

use super::super::handshake::{Hello, PROOF, Purpose, Side};
use super::*;
use std::fs;

#[test]
fn a_token_is_64_digits_and_never_shows() {
    let token = Token::from_hex(&format!(" {}\n", TOKEN.to_uppercase())).unwrap();
    assert_eq!(token.to_hex(), TOKEN);
    assert_eq!(format!("{:?}", Security { token: Some(token), ..trusted() }).matches("0011").count(), 0);
    assert_ne!(Token::random().unwrap().to_hex(), Token::random().unwrap().to_hex());
    for (text, why) in [
        ("", "0 characters"),
        (&TOKEN[1..], "63 characters"),
        (&TOKEN.replace('a', "g"), "not a hexadecimal digit"),
    ] {
        let error = Token::from_hex(text).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("ggbb"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_has_access_to_a_token_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, format!("{TOKEN}\n")).unwrap();
    for (mode, good) in
        [(0o600, true), (0o400, true), (0o644, false), (0o660, false), (0o602, false), (0o700, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match Token::from_file(&path) {
            Ok(token) => assert!(good && token.to_hex() == TOKEN, "{mode:o}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !good && error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"),
                    "{error}"
                );
            }
        }
    }
    assert!(Token::from_file(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    assert!(Token::from_file(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
}

#[cfg(unix)]
#[test]
fn variables_give_the_token_or_name_themselves() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, TOKEN.replace('0', "f")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.to_str().unwrap();
    let read = |variables: &[(&str, &str)]| {
        let get = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        let security = Security::from_variables(get, false).map_err(|e| e.to_string())?;
        Ok::<_, String>(security.token.map(|token| token.to_hex()))
    };
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("SSMV_TOKEN", TOKEN)]), Ok(Some(TOKEN.into())));
    assert_eq!(read(&[("SSMV_TOKEN_FILE", path)]), Ok(Some(TOKEN.replace('0', "f"))));
    assert_eq!(read(&[("SSMV_TOKEN_FILE", path), ("SSMV_TOKEN", TOKEN)]), Ok(Some(TOKEN.into())));
    for variables in [[("SSMV_TOKEN", "secret")], [("SSMV_TOKEN_FILE", "/nowhere")]] {
        let error = read(&variables).unwrap_err();
        assert!(error.starts_with(&format!("{}: ", variables[0].0)) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn macs_are_on_with_a_token_and_between_machines() {
    let [loopback, other] = ["127.0.0.1:1", "10.0.0.1:1"].map(|address| address.parse().unwrap());
    for (token, switch, on_loopback, between_machines) in [
        (true, None, true, true),
        (true, Some("on"), true, true),
        (true, Some("off"), false, true),
        // The ranks of one machine share a token that they add themselves.
        (false, None, false, true),
        (false, Some("on"), true, true),
    ] {
        let get = |name: &str| match name {
            "SSMV_TOKEN" => token.then(|| TOKEN.to_owned()),
            "SSMV_MAC" => switch.map(str::to_owned),
            _ => None,
        };
        let read = Security::from_variables(get, false).unwrap();
        let security = Security { token: Some(Token::from_hex(TOKEN).unwrap()), ..read };
        let wanted = (security.wants_macs(loopback), security.wants_macs(other));
        assert_eq!(wanted, (on_loopback, between_machines), "token: {token}, SSMV_MAC: {switch:?}");
    }
    for value in ["", "1", "ON"] {
        let get = |name: &str| (name == "SSMV_MAC").then(|| value.to_owned());
        let error = Security::from_variables(get, false).unwrap_err().to_string();
        assert_eq!(error, "SSMV_MAC: takes on or off");
    }
}

#[test]
fn differences_of_many_ranks_stay_short() {
    let fingerprints: Vec<_> = (0..1000).map(|rank| fingerprint(&"x".repeat(rank % 500))).collect();
    let fingerprints: Vec<_> = fingerprints.iter().enumerate().collect();
    let text = Fingerprint::differences(&fingerprints).unwrap();
    assert!(text.starts_with("the ranks do not agree: data is \"\" on ranks 0 and 500, \"x\" on"), "{text}");
    assert!(text.contains("496 more values") && text.len() < 300, "{text}");
    assert_eq!(Fingerprint::differences(&fingerprints[..1]), None);
    let long = [fingerprint(&"y".repeat(400)), fingerprint("\u{1b}[31m")];
    let text = Fingerprint::differences(&[(0, &long[0]), (1, &long[1])]).unwrap();
    assert!(text.len() < 250 && !text.contains('\u{1b}'), "{text}");
    let many: Vec<_> = (0..30).collect();
    assert_eq!(super::super::ranks_text(&many), "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 22 more");
}

#[test]
fn a_field_of_the_same_name_takes_the_place_of_the_first() {
    let fingerprint = fingerprint("a").with("data", "b");
    assert_eq!((fingerprint.get("data"), fingerprint.get("none")), (Some("b"), None));
    assert_eq!(Fingerprint::differences(&[(0, &fingerprint), (1, &fingerprint)]), None);
}

#[test]
fn addresses_for_messages_keep_the_port_apart() {
    let mut place = Place { port: 7, ..Job::new(1).place(0) };
    for (master, name) in
        [("host", "host:7"), ("10.0.0.1", "10.0.0.1:7"), ("::1", "[::1]:7"), ("[::1]", "[::1]:7")]
    {
        place.master = master.into();
        assert_eq!(place.name(), name);
    }
    assert!(rank::is_loopback("::ffff:127.0.0.1".parse().unwrap()));
    assert!(!rank::is_loopback(Ipv4Addr::new(10, 0, 0, 1).into()));
}

#[test]
fn a_code_covers_all_of_the_greeting_the_challenge_and_the_side() {
    let token = Token::from_hex(TOKEN).unwrap();
    let hello = Hello { purpose: Purpose::Ring, from: 1, to: 2, size: 3, macs: false, nonce: [7; 32] };
    let host = hello.challenge(&[9; 32], true);
    assert_eq!(Hello::decode(&hello.encode()), Some(hello));
    let proof = hello.prove(&token, Side::Caller, &host);
    assert!(hello.verify(&token, Side::Caller, &host, &proof));
    assert!(!hello.verify(&token, Side::Host, &host, &proof));
    assert!(!hello.verify(&token, Side::Caller, &hello.challenge(&[8; 32], true), &proof));
    assert!(!hello.verify(&token, Side::Caller, &hello.challenge(&[9; 32], false), &proof));
    assert!(!hello.verify(&Token::none(), Side::Caller, &host, &proof));
    for other in [
        Hello { purpose: Purpose::Join, ..hello },
        Hello { from: 2, ..hello },
        Hello { to: 1, ..hello },
        Hello { size: 4, ..hello },
        Hello { macs: true, ..hello },
        Hello { nonce: [6; 32], ..hello },
    ] {
        assert!(!other.verify(&token, Side::Caller, &host, &proof), "{other:?}");
    }
    for bit in 0..8 * PROOF {
        let mut wrong = proof;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(!hello.verify(&token, Side::Caller, &host, &wrong), "{bit}");
    }
    for at in 0..9 {
        let mut wrong = hello.encode();
        wrong[at] ^= 0x80;
        assert_eq!(Hello::decode(&wrong), None, "{at}");
    }
}
