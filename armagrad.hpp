// armagrad: automatic differentiation for Armadillo. This header brings in every room that programs use.
#pragma once

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/datasets/datasets.hpp>
#include <armagrad/nn/nn.hpp>
#include <armagrad/optim/optim.hpp>
#include <armagrad/robust/robust.hpp>
