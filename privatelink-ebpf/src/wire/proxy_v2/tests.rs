use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect()
}

/// What a load balancer sent.
const CAPTURE: &str = "
    0d0a0d0a000d0a515549540a 21 11 0054
    ac1f0771 ac1f0a1f c8f2 0050
    03 0004 e8d6892d
    ea 0017 01 767063652d30386432626631356661633530303163 39
    04 0024 000000000000000000000000000000000000000000000000000000000000000000000000";

fn captured(endpoint: &[u8; ENDPOINT_ID]) -> [u8; LEN] {
    let mut header = [0xff; LEN];
    let (src, dst) = (Ip4::from_wire([172, 31, 7, 113]), Ip4::from_wire([172, 31, 10, 31]));
    build(&mut header, src, L4Port::new(51_442), dst, L4Port::new(80), endpoint);
    header
}

#[test]
fn a_header_is_what_a_load_balancer_writes() {
    assert_eq!(captured(b"vpce-08d2bf15fac5001c9").to_vec(), hex(CAPTURE));
}

#[test]
fn without_an_endpoint_the_padding_is_longer() {
    let header = captured(&[0; ENDPOINT_ID]);
    assert_eq!(header[28..31], [3, 0, 4]);
    assert_eq!(header[35..38], [4, 0, 62]);
    assert!(header[38..].iter().all(|byte| *byte == 0));
    let mut zeroed = header;
    zeroed[CRC..CRC + 4].fill(0);
    assert_eq!(header[CRC..CRC + 4], crc32c(&zeroed).to_be_bytes());
}

#[test]
fn the_crc_is_castagnolis() {
    // RFC 3720 section B.4 has vectors of 32 bytes; the register of a zero prefix is checked by a bitwise one.
    let bitwise = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
        })
    };
    assert_eq!(bitwise(&[0; 32]), 0x8a91_36aa);
    let bytes: [u8; LEN] = std::array::from_fn(|index| (index * 37 + 11) as u8);
    assert_eq!(crc32c(&bytes), bitwise(&bytes));
}

#[test]
fn a_sealed_segment_is_right_for_complete_and_partial_checksums() {
    for (pseudo, rest) in [(0x1234, 0x9_8765), (0xffff, 0), (1, 0xffff), (0xfffe, 80 * 0xffff), (0x8000, 0x8000)] {
        let (check, urgent) = seal(pseudo, rest);
        assert_eq!(check, pseudo);
        let complete = !checksum::fold(u32::from(pseudo) + rest + u32::from(urgent));
        // One's complement has two zeros.
        assert!(complete == pseudo || complete ^ pseudo == 0xffff && (pseudo == 0 || pseudo == 0xffff), "{pseudo:x}");
    }
}
