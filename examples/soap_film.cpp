// Newton's method on a function of 400 inputs: the soap film in a bent frame, the surface of least area. Writes
// soap_film.svg: the 400 x 400 Hessian and the film.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include <armagrad/armagrad.hpp>

namespace ag = armagrad;

namespace {

constexpr arma::uword inside = 20, points = inside + 2;  // per side; the frame's are given

// The frame's height at the edge of the unit square, zeros inside.
arma::mat frame() {
  arma::mat f(points, points);
  const auto height = [](double x, double y) { return 0.35 * std::sin(2 * arma::datum::pi * x) * (2 * y - 1); };
  for (arma::uword i = 0; i < points; ++i) {
    const double t = static_cast<double>(i) / (points - 1);
    f(i, 0) = height(t, 0), f(i, points - 1) = height(t, 1);
    f(0, i) = height(0, t) + 0.3 * t * (1 - t), f(points - 1, i) = height(1, t) - 0.3 * t * (1 - t);
  }
  return f;
}

// A square as a step of an SVG path.
std::string square_at(arma::uword x, arma::uword y) {
  std::ostringstream out;
  out << 'M' << x << ' ' << y << "h1v1h-1z";
  return out.str();
}

std::string picture(const arma::mat& hessian, const arma::mat& film) {
  std::ostringstream out, above, below;
  for (arma::uword j = 0; j < hessian.n_cols; ++j)
    for (arma::uword i = 0; i < hessian.n_rows; ++i)
      if (hessian(i, j) != 0) (hessian(i, j) > 0 ? above : below) << square_at(j, i);
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 860 450' font-family='sans-serif' font-size='14'>\n"
         "<rect width='860' height='450' fill='white'/>\n"
         "<text x='20' y='26'>The Hessian, 400 x 400: red above 0, blue below</text>\n"
         "<text x='440' y='26'>The film: dark is low, light is high</text>\n"
         "<g transform='translate(20 40)' shape-rendering='crispEdges'>"
         "<rect width='400' height='400' fill='none' stroke='#999'/>\n<path fill='#c0392b' d='"
      << above.str() << "'/>\n<path fill='#2471a3' d='" << below.str()
      << "'/></g>\n<g transform='translate(440 40) scale(" << 400.0 / points << ")' shape-rendering='crispEdges'>\n";
  const double low = film.min(), range = film.max() - low;
  for (arma::uword j = 0; j < points; ++j)
    for (arma::uword i = 0; i < points; ++i)
      out << "<path fill='hsl(215 60% " << std::lround(15 + 80 * (film(i, j) - low) / range) << "%)' d='"
          << square_at(j, i) << "'/>";
  out << "</g>\n</svg>\n";
  return out.str();
}

}  // namespace

int main() {
  // [film]
  const arma::mat edge = frame();                                            // 22x22
  const arma::mat place = arma::eye(points, points).eval().cols(1, inside);  // 22x20: puts the film into the frame
  const double width = 1.0 / (points - 1);
  const auto film = [&](auto z) { return place * reshape(z, inside, inside) * place.t() + edge; };
  const auto area = [&](ag::Var<double> z) {  // of 400 heights
    const auto f = film(z);
    const auto rise = f.rows(1, points - 1) - f.rows(0, points - 2),
               run = f.cols(1, points - 1) - f.cols(0, points - 2);
    const auto down = (rise.cols(0, points - 2) + rise.cols(1, points - 1)) / (2 * width);  // slopes of the 21x21 cells
    const auto across = (run.rows(0, points - 2) + run.rows(1, points - 1)) / (2 * width);
    return width * width * accu(sqrt(1 + square(down) + square(across)));
  };
  arma::mat z(inside * inside, 1);
  arma::mat hessian;  // 400x400
  for (int step = 0; step < 8; ++step) {
    const auto at = ag::value_grad_hessian(area, z);
    std::printf("step %d: area %.6f, |gradient| %.0e\n", step, at.value, arma::norm(at.gradient));
    hessian = at.hessian;
    z -= arma::solve(hessian, at.gradient, arma::solve_opts::likely_sympd);
  }
  std::printf("%d of the Hessian's 160000 entries are not 0\n", int(arma::accu(hessian != 0)));
  // [/film]
  const arma::mat shape = place * arma::reshape(z, inside, inside) * place.t() + edge;
  std::ofstream("soap_film.svg") << picture(hessian, shape);
}
