//! One entry of `vif` (xl-network-configuration(5)).

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vif {
    /// Its hardware address, if it was given one.
    pub mac: Option<String>,
    /// The bridge, or the network's name.
    pub bridge: Option<String>,
}

/// Reads an entry.
pub fn parse(text: &str) -> Result<Vif, String> {
    let mut vif = Vif::default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part} is no NAME=VALUE"))?;
        let place = match name.trim() {
            "mac" => &mut vif.mac,
            "bridge" => &mut vif.bridge,
            "type" if value == "vif" => continue,
            "type" | "model" => return Err(format!("{part}: PVH guests have no emulated devices")),
            "ip" | "gatewaydev" | "forwarddev" | "script" | "backend" | "vifname" => {
                return Err(format!(
                    "{part}: interfaces are the host's: set it with `radon call VIF...` or on the network"
                ));
            }
            "rate" => return Err("rate: set the VIF's qos_algorithm_params, on a managed network".into()),
            "mtu" => return Err("mtu: set the network's MTU".into()),
            "trusted" if value == "1" => continue,
            _ => return Err(format!("{name} is nothing of an interface")),
        };
        if place.replace(value.trim().to_owned()).is_some() {
            return Err(format!("it has two: {name}"));
        }
    }
    if let Some(mac) = &vif.mac {
        let pairs: Vec<&str> = mac.split(':').collect();
        if pairs.len() != 6 || pairs.iter().any(|p| p.len() != 2 || !p.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(format!("{mac} is no hardware address, such as 00:16:3e:01:02:03"));
        }
    }
    Ok(vif)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries() {
        let mac = Some("00:16:3e:aa:BB:01".to_owned());
        assert_eq!(parse(""), Ok(Vif::default()));
        assert_eq!(parse("bridge=xenbr0"), Ok(Vif { mac: None, bridge: Some("xenbr0".into()) }));
        assert_eq!(
            parse("mac=00:16:3e:aa:BB:01, bridge=lan, type=vif"),
            Ok(Vif { mac, bridge: Some("lan".into()) })
        );
        for (text, why) in [
            ("bridge", "NAME=VALUE"),
            ("model=e1000", "emulated"),
            ("ip=10.0.0.1", "VIF"),
            ("mac=00:16", "hardware address"),
            ("mac=00:16:3e:aa:bb:é", "hardware address"),
            ("bridge=a,bridge=b", "two"),
            ("colour=red", "nothing"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,60}|([a-z]{1,6}[=:,]{0,2}){0,8}") {
            let _ = parse(&text);
        }
    }
}
