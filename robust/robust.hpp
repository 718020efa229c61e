#pragma once

#include <armagrad/robust/attacks.hpp>
#include <armagrad/robust/certificates.hpp>
