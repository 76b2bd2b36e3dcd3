//! Running plans: weights packed and uploaded, buffers and bind groups prebuilt, one compute pass per replay.
use std::collections::HashMap;
use std::sync::Arc;
use crate::error::KernelError;
use crate::plan::Plan;
use crate::tensor::{DType, Shape};
use crate::target::Target;
use crate::weight::WeightSource;

