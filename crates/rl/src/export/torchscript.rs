//! TorchScript export, by tracing a forward pass.

use std::{
    fmt::Display,
    fs,
    io::{Cursor, Read, Write},
    path::Path,
};

use tch::{CModule, Device, TchError, Tensor, no_grad_guard};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::FileOptions};

use super::ExportError;
use crate::network::{ForwardConstants, ParsedPolicy, PolicyNetwork};

/// Archive entries of the module's code and of the debug information that refers to it.
const CODE_ENTRY: &str = "policy/code/__torch__.py";
const CODE_DEBUG_ENTRY: &str = "policy/code/__torch__.py.debug_pkl";
/// Text before and after a list operator's arguments in the code; the outputs are gathered under that operator.
const LIST_CALL: [&str; 2] = ["torch.block_diag([", "])\n"];

/// Build a module `policy` whose `forward(state)` is the network.
pub(super) fn build_module(policy: ParsedPolicy) -> Result<Vec<u8>, ExportError> {
    let outputs = policy.layers.output_names().len();
    let _guard = no_grad_guard();
    // libtorch writes only to a path, and stores its last part in the file.
    let folder = tempfile::tempdir().map_err(write_error)?;
    let path = folder.path().join("policy.pt");
    let archive = save_to_bytes(&trace_policy(policy)?, &path)?;
    let module = CModule::load_data(&mut &return_tuple(&archive, outputs)?[..]).map_err(write_error)?;
    save_to_bytes(&module, &path)
}

fn write_error(error: impl Display) -> ExportError {
    ExportError::Write(error.to_string())
}

fn save_to_bytes(module: &CModule, path: &Path) -> Result<Vec<u8>, ExportError> {
    module.save(path).map_err(write_error)?;
    fs::read(path).map_err(write_error)
}

/// Trace a module with one output: saving requires exactly one, so several are gathered by an operator that takes a
/// list.
fn trace_policy(policy: ParsedPolicy) -> Result<CModule, ExportError> {
    let length = policy.form.state_length as i64;
    let network = PolicyNetwork::new(policy)?;
    // Trace with two rows: with one, libtorch may fix the number of rows at 1.
    let states = Tensor::f_zeros([2, length], tch::kind::FLOAT_CPU).map_err(write_error)?;
    let constants = ForwardConstants::new(network.layers(), Device::Cpu).map_err(write_error)?;
    let forward = |states: &Tensor| -> Result<Tensor, TchError> {
        let mut outputs = network.layers().outputs(states, &constants)?;
        if outputs.len() == 1 { Ok(outputs.remove(0)) } else { Tensor::f_block_diag(&outputs) }
    };
    let mut failure = None;
    // Tracing must be ended even after an error.
    let mut record = |inputs: &[Tensor]| {
        let output = forward(&inputs[0]).unwrap_or_else(|error| {
            failure = Some(error);
            inputs[0].shallow_clone()
        });
        vec![output]
    };
    let module = CModule::create_by_tracing("policy", "forward", &[states], &mut record);
    failure.map_or(module, Err).map_err(write_error)
}

/// Rewrite the archive so that the list of `outputs` becomes a tuple in its code and the input has its name.
fn return_tuple(archive: &[u8], outputs: usize) -> Result<Vec<u8>, ExportError> {
    let mut from = ZipArchive::new(Cursor::new(archive)).map_err(write_error)?;
    let mut into = ZipWriter::new(Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    for index in 0..from.len() {
        let mut entry = from.by_index(index).map_err(write_error)?;
        let name = entry.name().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(write_error)?;
        if name == CODE_DEBUG_ENTRY {
            continue;
        }
        if name == CODE_ENTRY {
            content = rewrite_code(&String::from_utf8_lossy(&content), outputs)?.into_bytes();
        }
        into.start_file(name, options).map_err(write_error)?;
        into.write_all(&content).map_err(write_error)?;
    }
    Ok(into.finish().map_err(write_error)?.into_inner())
}

fn rewrite_code(code: &str, outputs: usize) -> Result<String, ExportError> {
    let code = code.replace("argument_1", "state");
    if outputs == 1 {
        return Ok(code);
    }
    let unknown = || ExportError::Write("libtorch wrote the module's code in an unexpected form".to_owned());
    let (before, rest) = code.split_once(LIST_CALL[0]).ok_or_else(unknown)?;
    let (list, after) = rest.split_once(LIST_CALL[1]).ok_or_else(unknown)?;
    let tuple = format!("-> Tuple[{}]:", vec!["Tensor"; outputs].join(", "));
    match before.contains("-> Tensor:") {
        true => Ok(format!("{}({list})\n{after}", before.replace("-> Tensor:", &tuple))),
        false => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_a_tuple() {
        let code = "  def forward(self: __torch__.policy,\n    argument_1: Tensor) -> Tensor:\n    _0 = \
                    torch.block_diag([torch.softmax(argument_1, -1, 6), torch.stack([_1])])\n    return _0\n";
        let wanted = "  def forward(self: __torch__.policy,\n    state: Tensor) -> Tuple[Tensor, Tensor]:\n    _0 = \
                      (torch.softmax(state, -1, 6), torch.stack([_1]))\n    return _0\n";
        assert_eq!(rewrite_code(code, 2).unwrap(), wanted);
        assert!(rewrite_code("return _0", 2).is_err());
        assert_eq!(rewrite_code("return argument_1", 1).unwrap(), "return state");
    }
}
