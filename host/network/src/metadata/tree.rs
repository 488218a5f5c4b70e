//! The documents of one guest: as EC2 has them (`/latest/meta-data/...`), and as cloud-init's NoCloud source asks for them
//! (`/meta-data`, `/user-data`, `/vendor-data`, `/network-config`; `ds=nocloud;s=http://169.254.169.254/`).

use crate::interface::{Interface, Metadata};
use crate::name::DomainName;
use std::fmt::Write as _;

/// Versions of EC2's tree that clients ask for.
const VERSIONS: &[&str] = &["1.0", "2009-04-04", "2021-03-23", "latest"];

/// The content at a path; none, if there is nothing.
pub fn find(interface: &Interface, domain: &DomainName, path: &[String]) -> Option<String> {
    let metadata = interface.metadata.as_ref()?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let name = interface.host_name.as_ref().map(|name| format!("{name}.{domain}"));
    match path.as_slice() {
        [] => Some(VERSIONS.join("\n")),
        ["user-data"] => Some(metadata.user_data.clone()),
        ["vendor-data"] => Some(metadata.vendor_data.clone()),
        ["network-config"] => Some(network_config(interface, metadata)),
        ["meta-data"] => Some(nocloud(metadata, name.as_deref())),
        [version, rest @ ..] if VERSIONS.contains(version) => ec2(interface, metadata, name.as_deref(), rest),
        _ => None,
    }
}

/// A text as YAML has it: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn nocloud(metadata: &Metadata, name: Option<&str>) -> String {
    let mut out = format!("instance-id: {}\n", quoted(&metadata.instance_id));
    // Writing to a string cannot fail.
    if let Some(name) = name {
        let _ = writeln!(out, "local-hostname: {}", quoted(name));
    }
    if !metadata.public_keys.is_empty() {
        out.push_str("public-keys:\n");
        for key in &metadata.public_keys {
            let _ = writeln!(out, "  - {}", quoted(key));
        }
    }
    out
}

fn network_config(interface: &Interface, metadata: &Metadata) -> String {
    if !metadata.network_config.is_empty() {
        return metadata.network_config.clone();
    }
    let mac = quoted(&interface.mac.to_string());
    format!("version: 2\nethernets:\n  primary:\n    match:\n      macaddress: {mac}\n    dhcp4: true\n")
}

fn ec2(interface: &Interface, metadata: &Metadata, name: Option<&str>, path: &[&str]) -> Option<String> {
    let address = interface.ipv4.first().map(ToString::to_string);
    match path {
        [] => Some("meta-data\nuser-data".to_owned()),
        ["user-data"] => (!metadata.user_data.is_empty()).then(|| metadata.user_data.clone()),
        ["meta-data"] => {
            let keys = (!metadata.public_keys.is_empty()).then_some("public-keys/");
            let all =
                ["hostname", "instance-id", "local-hostname", "local-ipv4", "mac"].into_iter().chain(keys);
            Some(all.collect::<Vec<_>>().join("\n"))
        }
        ["meta-data", "instance-id"] => Some(metadata.instance_id.clone()),
        ["meta-data", "hostname" | "local-hostname"] => {
            Some(name.map_or_else(|| metadata.instance_id.clone(), str::to_owned))
        }
        ["meta-data", "local-ipv4"] => address,
        ["meta-data", "mac"] => Some(interface.mac.to_string()),
        ["meta-data", "public-keys"] => {
            let lines = (0..metadata.public_keys.len()).map(|n| format!("{n}=key-{n}"));
            Some(lines.collect::<Vec<_>>().join("\n"))
        }
        ["meta-data", "public-keys", number] => {
            metadata.public_keys.get(number.parse::<usize>().ok()?).map(|_| "openssh-key".to_owned())
        }
        ["meta-data", "public-keys", number, "openssh-key"] => {
            metadata.public_keys.get(number.parse::<usize>().ok()?).cloned()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<String> {
        let interface: Interface = serde_json::from_str(
            r##"{"network": "a", "mac": "00:16:3e:00:00:01", "ipv4": ["10.1.0.2"], "host_name": "web",
                "metadata": {"instance_id": "i-1", "public_keys": ["ssh-ed25519 AAAA \"me\""], "user_data": "#cloud-config\n"}}"##,
        )
        .unwrap();
        let path: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        find(&interface, &"a.test".parse().unwrap(), &path)
    }

    #[test]
    fn documents() {
        let has = |path: &str, text: &str| assert_eq!(get(path).as_deref(), Some(text), "{path}");
        has("/latest/meta-data/instance-id", "i-1");
        has("/2009-04-04/meta-data/local-hostname", "web.a.test");
        has("/latest/meta-data/public-keys/", "0=key-0");
        has("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA \"me\"");
        has("/latest/user-data", "#cloud-config\n");
        has("/user-data", "#cloud-config\n");
        has("/vendor-data", "");
        has(
            "/meta-data",
            "instance-id: \"i-1\"\nlocal-hostname: \"web.a.test\"\npublic-keys:\n  - \"ssh-ed25519 AAAA \\\"me\\\"\"\n",
        );
        assert!(get("/network-config").unwrap().contains("dhcp4: true"));
        // Everything that is listed is there.
        for name in get("/latest/meta-data/").unwrap().lines() {
            assert!(get(&format!("/latest/meta-data/{name}")).is_some(), "{name}");
        }
        for none in ["/latest/x", "/latest/meta-data/public-keys/1/openssh-key", "/3000-01-01/meta-data"] {
            assert_eq!(get(none), None, "{none}");
        }
    }
}
