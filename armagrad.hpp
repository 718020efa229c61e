// armagrad: automatic differentiation for Armadillo. This header brings in everything a program needs
// except the data sets (<armagrad/datasets/...>), which a program names one by one.
#pragma once

#include <armagrad/autodiff/autodiff.hpp>
#include <armagrad/nn/nn.hpp>
#include <armagrad/optim/optim.hpp>
