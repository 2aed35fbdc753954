//! The parameters of a network, by their official names.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

/// Flattened gradients of some parameters, each with its index in [`trainable_names`].
pub type PartialGrads = Vec<(usize, Tensor<1>)>;

/// A parameter of a network.
#[derive(Debug, Clone)]
pub struct NamedParam {
    /// Official name, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    pub shape: Vec<usize>,
    /// Flattened values. This tensor shares memory with the parameter.
    pub values: Tensor<1>,
    /// Whether training changes the values.
    pub trained: bool,
}

/// Returns all parameters of `module`, in module order.
pub fn named<M: Module>(module: &M) -> Vec<NamedParam> {
    let mut visitor = Collect::default();
    module.visit(&mut visitor);
    visitor.params
}

/// Returns the device that holds `module`.
pub fn device<M: Module>(module: &M) -> Device {
    module.devices().into_iter().next().unwrap_or_default()
}

/// Returns the names of all trained parameters, in module order.
pub fn trainable_names<M: Module>(module: &M) -> Vec<String> {
    named(module).into_iter().filter(|p| p.trained).map(|p| p.name).collect()
}

/// Moves the flattened gradients of all trained parameters out of `grads`, in the order of [`trainable_names`].
///
/// A parameter that does not affect the loss has a gradient of zeros.
pub fn grads<M: Module>(replica: &M, grads: &mut Gradients) -> Vec<Tensor<1>> {
    let mut visitor = TakeGrads { grads, zeros: true, taken: Vec::new() };
    replica.visit(&mut visitor);
    visitor.taken.into_iter().flatten().collect()
}

/// Does the same as [`grads`], but leaves out parameters that do not affect the loss.
pub(super) fn found_grads<M: Module>(replica: &M, grads: &mut Gradients) -> PartialGrads {
    let mut visitor = TakeGrads { grads, zeros: false, taken: Vec::new() };
    replica.visit(&mut visitor);
    present(visitor.taken)
}

/// Returns all gradients that are not `None`, each with its index in `grads`.
pub fn present(grads: Vec<Option<Tensor<1>>>) -> PartialGrads {
    let grads = grads.into_iter().enumerate();
    grads.filter_map(|(place, grad)| Some((place, grad?))).collect()
}

/// Replaces parameter values of `module`.
///
/// `f` receives name, shape and flattened values of each parameter. `f` returns new values, or `None` to keep the
/// values.
pub fn apply<M, F>(module: M, f: F) -> M
where
    M: Module,
    F: FnMut(&str, &[usize], Tensor<1>) -> Option<Tensor<1>>,
{
    module.map(&mut Replace { path: Vec::new(), f })
}

/// Replaces the values of all trained parameters.
///
/// `f` receives the parameter's index in [`trainable_names`] and the flattened values. `f` returns new values.
pub fn update<M, F>(module: M, mut f: F) -> M
where
    M: Module,
    F: FnMut(usize, Tensor<1>) -> Tensor<1>,
{
    let trained: Vec<bool> = named(&module).iter().map(|p| p.trained).collect();
    let (mut at, mut index) = (0, 0);
    apply(module, |_, _, values| {
        at += 1;
        trained[at - 1].then(|| {
            index += 1;
            f(index - 1, values)
        })
    })
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    params: Vec<NamedParam>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.params.push(NamedParam {
            name: self.path.join("."),
            shape: value.dims().to_vec(),
            values: flat(value),
            trained: trained(param),
        });
    }
}

fn trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.clone().train().val().is_require_grad()
}

struct TakeGrads<'a> {
    grads: &'a mut Gradients,
    /// Whether a missing gradient becomes zeros.
    zeros: bool,
    taken: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for TakeGrads<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let grad = value.grad_remove(self.grads);
            let zeros = || self.zeros.then(|| value.inner().zeros_like());
            self.taken.push(grad.or_else(zeros).map(flat));
        }
    }
}

struct Replace<F> {
    path: Vec<String>,
    f: F,
}

impl<F: FnMut(&str, &[usize], Tensor<1>) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let value = param.val();
        let shape = value.dims();
        match (self.f)(&name, &shape, flat(value)) {
            Some(values) => param.map(|_| values.reshape(shape)),
            None => param,
        }
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}
