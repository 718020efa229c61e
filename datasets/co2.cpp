#include <iterator>

#include <armagrad/datasets/co2.hpp>

namespace armagrad::data {
namespace {

struct Month {
  int year, month;
  double ppm;
};
constexpr Month months[] = {
#include "co2.inc"
};

}  // namespace

MonthlyCo2 load_co2() {
  MonthlyCo2 out{arma::vec(std::size(months)), arma::vec(std::size(months))};
  arma::uword i = 0;
  for (const Month& m : months) {
    out.year[i] = m.year + (m.month - 1) / 12.0;
    out.ppm[i++] = m.ppm;
  }
  return out;
}

}  // namespace armagrad::data
