// The engine's public face: tapes, Vars, operations, gradients and their check.
#pragma once

#include <armagrad/autodiff/batches.hpp>
#include <armagrad/autodiff/checkpoint.hpp>
#include <armagrad/autodiff/derivatives.hpp>
#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/gradient.hpp>
#include <armagrad/autodiff/machine.hpp>
#include <armagrad/autodiff/operations.hpp>
#include <armagrad/autodiff/parameter.hpp>
#include <armagrad/autodiff/profile.hpp>
#include <armagrad/autodiff/tape.hpp>
