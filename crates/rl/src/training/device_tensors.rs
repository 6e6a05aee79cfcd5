//! Numbers as tensors on a device, and back.

use tch::{Device, TchError, Tensor};

use crate::network;

/// Build a matrix of `width` columns on the device.
pub(super) fn matrix(numbers: &[f32], width: usize, device: Device) -> Result<Tensor, TchError> {
    network::matrix(numbers, width)?.f_to_device(device)
}

/// Read all numbers of a tensor on any device, in row-major order.
pub(super) fn tensor_numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    network::tensor_numbers(&tensor.f_to_device(Device::Cpu)?)
}
