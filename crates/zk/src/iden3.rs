//! iden3's binary formats of circuits (`.r1cs`, version 1) and of their values (`.wtns`, version 2), which snarkjs reads:
//! <https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md>.

use ark_ff::{BigInteger, PrimeField};

use crate::{FieldElement, Synthesis, WireIndex};

/// Bytes of a field element.
const ELEMENT_BYTES: u32 = 32;

fn element_bytes(element: &FieldElement) -> Vec<u8> {
    element.into_bigint().to_bytes_le()
}

/// A file of numbered sections.
fn file(mark: &[u8; 4], version: u32, sections: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = mark.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((sections.len() as u32).to_le_bytes());
    for (kind, content) in sections {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(content);
    }
    bytes
}

fn field_head() -> Vec<u8> {
    let mut head = ELEMENT_BYTES.to_le_bytes().to_vec();
    head.extend(FieldElement::MODULUS.to_bytes_le());
    head
}

fn push_row(bytes: &mut Vec<u8>, row: &[(FieldElement, WireIndex)]) {
    bytes.extend((row.len() as u32).to_le_bytes());
    for (coefficient, wire) in row {
        bytes.extend((*wire as u32).to_le_bytes());
        bytes.extend(element_bytes(coefficient));
    }
}

/// A circuit's constraints. Its public wires are outputs.
pub fn r1cs_bytes(circuit: &Synthesis) -> Vec<u8> {
    let publics = circuit.publics().len();
    let mut header = field_head();
    // Wires, public outputs, public inputs, private inputs (of which the format says nothing more), labels, constraints.
    for count in [circuit.wires(), publics, 0, 0] {
        header.extend((count as u32).to_le_bytes());
    }
    header.extend((circuit.wires() as u64).to_le_bytes());
    header.extend((circuit.constraints() as u32).to_le_bytes());
    let mut constraints = Vec::new();
    for index in 0..circuit.constraints() {
        circuit.rows().iter().for_each(|rows| push_row(&mut constraints, &rows[index]));
    }
    let labels = (0..circuit.wires() as u64).flat_map(u64::to_le_bytes).collect();
    // snarkjs reads the constraints with the sections in any order.
    file(b"r1cs", 1, &[(1, header), (2, constraints), (3, labels)])
}

/// The values of a circuit's wires. They are private.
pub fn wtns_bytes(circuit: &Synthesis) -> Vec<u8> {
    let mut header = field_head();
    header.extend((circuit.wires() as u32).to_le_bytes());
    let values = circuit.values().iter().flat_map(element_bytes).collect();
    file(b"wtns", 2, &[(1, header), (2, values)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CircuitBuilder, LinearSum};

    #[test]
    fn the_bytes_are_as_the_format_says() {
        let mut builder = CircuitBuilder::new(1);
        let factor = LinearSum::wire(builder.private(FieldElement::from(3u64)));
        builder.publish(1, &factor, &factor);
        let circuit = builder.finish();
        let bytes = r1cs_bytes(&circuit);
        assert_eq!(&bytes[..12], b"r1cs\x01\0\0\0\x03\0\0\0");
        // Header: kind, length, 32, the modulus, three wires, one output, no inputs, three labels, one constraint.
        assert_eq!(&bytes[12..28], [1, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0]);
        let counts: Vec<u8> = [3u32, 1, 0, 0, 3, 0, 1].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(&bytes[60..88], counts);
        // Three rows of one term each, then labels.
        assert_eq!(bytes.len(), 88 + 12 + 3 * (4 + 36) + 12 + 24);
        let values = wtns_bytes(&circuit);
        assert_eq!(&values[..12], b"wtns\x02\0\0\0\x02\0\0\0");
        assert_eq!(values.len(), 12 + 12 + 40 + 12 + 3 * 32);
        assert_eq!((values[76], values[108], values[140]), (1, 9, 3));
    }
}
