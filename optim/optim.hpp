#pragma once

#include <armagrad/optim/schedule.hpp>
#include <armagrad/optim/sgd.hpp>
