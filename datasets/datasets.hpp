#pragma once

#include <armagrad/datasets/co2.hpp>
#include <armagrad/datasets/dataset.hpp>
#include <armagrad/datasets/digits.hpp>
#include <armagrad/datasets/idx.hpp>
#include <armagrad/datasets/loader.hpp>
#include <armagrad/datasets/mnist.hpp>
#include <armagrad/datasets/numpy_random.hpp>
#include <armagrad/datasets/regression.hpp>
#include <armagrad/datasets/scale.hpp>
#include <armagrad/datasets/split.hpp>
