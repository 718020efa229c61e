#pragma once

#include <armagrad/nn/finite.hpp>
#include <armagrad/nn/init.hpp>
#include <armagrad/nn/layers.hpp>
#include <armagrad/nn/losses.hpp>
#include <armagrad/nn/module.hpp>
#include <armagrad/nn/safetensors.hpp>
#include <armagrad/nn/state.hpp>
