//! Arguments' values: parsed into types that cannot be wrong; a refusal names the value, the rule and the way out.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    control::Reference,
    dns,
    model::{InvalidValue, RouteDestination},
};

fn text(error: InvalidValue) -> String {
    format!("{error}; {}", error.hint)
}

/// Any value of the model.
pub fn parse<T: FromStr<Err = InvalidValue>>(argument: &str) -> Result<T, String> {
    argument.parse().map_err(text)
}

/// An IPv4 address.
pub fn address(argument: &str) -> Result<Ipv4Addr, String> {
    argument.parse().map_err(|_| {
        text(InvalidValue::new("Address", argument, "must be an IPv4 address", "use an address like 10.0.0.5"))
    })
}

/// An IPv6 address.
pub fn ipv6_address(argument: &str) -> Result<Ipv6Addr, String> {
    argument.parse().map_err(|_| {
        text(InvalidValue::new("Address", argument, "must be an IPv6 address", "use an address like fd00:10::5"))
    })
}

/// An address of either family.
pub fn ip_address(argument: &str) -> Result<IpAddr, String> {
    argument.parse().map_err(|_| {
        let hint = "use an address like 10.0.0.5 or fd00:10::5";
        text(InvalidValue::new("Address", argument, "must be an IP address", hint))
    })
}

/// An address and a TCP port.
pub fn socket_address(argument: &str) -> Result<SocketAddr, String> {
    argument.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        text(InvalidValue::new(
            "Address",
            argument,
            "must be an IP address, a colon and a port between '1-65535'",
            "use an address like 127.0.0.1:9420",
        ))
    })
}

/// A TCP port.
pub fn port(argument: &str) -> Result<u16, String> {
    argument.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        text(InvalidValue::new("Port", argument, "must be between '1-65535' inclusive", "use a port like 80"))
    })
}

/// A whole number.
pub fn number(argument: &str) -> Result<u32, String> {
    argument
        .parse()
        .map_err(|_| text(InvalidValue::new("Number", argument, "must be a whole number", "use a number like 10")))
}

/// `on` or `off`.
pub fn on_or_off(argument: &str) -> Result<bool, String> {
    match argument {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(text(InvalidValue::new("Value", argument, "must be one of '[on, off]'", "use on or off"))),
    }
}

/// The name or id of a resource.
pub fn reference(argument: &str) -> Result<Reference, String> {
    if argument.trim().is_empty() {
        return Err(text(InvalidValue::new(
            "Name or id",
            argument,
            "cannot be empty",
            "use the resource's name or id",
        )));
    }
    Ok(argument.into())
}

/// `KEY=VALUE`.
pub fn attribute(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(text(InvalidValue::new(
            "Attribute",
            argument,
            "must be a key, an equals sign and a value",
            "use a pair like deregistration_delay.timeout_seconds=60",
        ))),
    }
}

/// The address of a DNS server; at its usual port unless another is given.
pub fn dns_server(argument: &str) -> Result<SocketAddr, String> {
    let usual = || argument.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, dns::PORT));
    argument.parse().ok().or_else(usual).filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        text(InvalidValue::new(
            "DNS server",
            argument,
            "must be an address, or an address and a port",
            "use an address like 192.0.2.53 or 127.0.0.1:5353",
        ))
    })
}

/// An IPv4 prefix without host bits.
pub fn prefix(argument: &str) -> Result<Ipv4Net, String> {
    argument.parse().ok().filter(|net: &Ipv4Net| net.addr() == net.network()).ok_or_else(|| {
        text(InvalidValue::new(
            "Prefix",
            argument,
            "must be an IPv4 network address, a slash and a prefix length",
            "use a prefix like 100.64.0.0/15",
        ))
    })
}

/// A range of either family without host bits.
pub fn destination(argument: &str) -> Result<RouteDestination, String> {
    let net = argument.parse().ok().filter(|net: &IpNet| net.addr() == net.network());
    net.map(RouteDestination::from).ok_or_else(|| {
        text(InvalidValue::new(
            "Destination",
            argument,
            "must be a network address, a slash and a prefix length",
            "use a range like 10.200.0.10/32",
        ))
    })
}

/// A power of two.
pub fn power_of_two(argument: &str) -> Result<u32, String> {
    argument.parse().ok().filter(|number: &u32| number.is_power_of_two()).ok_or_else(|| {
        text(InvalidValue::new("Number", argument, "must be a power of two", "use a number like 262144"))
    })
}
