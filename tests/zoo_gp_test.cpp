// The Gaussian process of the zoo: its likelihood, its fit and its report.
#define BOOST_TEST_MODULE zoo_gp
#include <boost/test/unit_test.hpp>
#include <fmt/format.h>

#include <armagrad/armagrad.hpp>

#include "zoo/gp.hpp"

namespace ag = armagrad;
namespace zoo = armagrad::zoo;

namespace {

struct Data {
  arma::vec t, y, book;
};
Data every(arma::uword step) {
  const ag::data::MonthlyCo2 record = ag::data::load_co2();
  const arma::uvec taken = arma::regspace<arma::uvec>(0, step, record.year.n_elem - 1);
  Data d{record.year.elem(taken), record.ppm.elem(taken), arma::vec(zoo::gp_parameters().size())};
  d.y -= arma::mean(d.y);
  for (arma::uword i = 0; i < d.book.n_elem; ++i) d.book[i] = std::log(zoo::gp_parameters()[i].book);
  return d;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_record_is_the_one_published) {
  const ag::data::MonthlyCo2 record = ag::data::load_co2();
  BOOST_TEST(record.year.n_elem == 521u);
  BOOST_TEST(record.year[0] == 1958 + 2 / 12.0);
  BOOST_TEST(record.ppm[0] == 316.1);
  BOOST_TEST(record.ppm[520] == 371.02);
  BOOST_TEST(arma::diff(record.year).max() < 0.34);  // three months of 1964 are missing in a row
  BOOST_TEST(arma::diff(record.year).min() > 0.08);
}

BOOST_AUTO_TEST_CASE(the_likelihood_is_scikit_learns) {
  const Data d = every(1);
  ag::Tape<double> tape;
  BOOST_TEST(zoo::gp_negative_log_likelihood(tape.constant(d.book), d.t, d.y).item() == 117.022637376,
             boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(its_derivatives_are_right) {
  const Data d = every(13);
  const auto f = [&](auto theta) { return zoo::gp_negative_log_likelihood(theta, d.t, d.y); };
  BOOST_TEST(ag::gradcheck(f, d.book));
  const auto at = ag::value_grad_hessian(f, d.book);
  const auto slope = [&](const arma::vec& theta) { return ag::value_grad_hessian(f, theta).gradient; };
  for (const arma::uword k : {0u, 5u, 10u}) {
    arma::vec up = d.book, down = d.book;
    up[k] += 1e-4, down[k] -= 1e-4;
    const arma::vec numeric = (slope(up) - slope(down)) / 2e-4;
    BOOST_TEST(arma::norm(numeric - at.hessian.col(k)) < 1e-5 * arma::norm(at.hessian.col(k)));
  }
}

BOOST_AUTO_TEST_CASE(newtons_method_ends_at_a_maximum) {
  const Data d = every(7);
  const zoo::GpFit fit = zoo::fit_gp(d.book, d.t, d.y, {.gradient_steps = 5, .newton_steps = 60});
  BOOST_TEST(fit.gradients.back() < 1e-6);
  BOOST_TEST(arma::eig_sym(fit.hessian).min() > -1e-6);
  BOOST_TEST(fit.log_likelihood > fit.likelihoods.front());
  for (std::size_t i = 1; i < fit.likelihoods.size(); ++i)
    BOOST_TEST(fit.likelihoods[i] > fit.likelihoods[i - 1] - 1e-8);
  // The end is quadratic: a step squares the distance.
  const std::size_t n = fit.gradients.size();
  BOOST_TEST(fit.gradients[n - 1] < 0.1 * fit.gradients[n - 2]);
}

BOOST_AUTO_TEST_CASE(the_report_is_complete) {
  const std::string json = zoo::gaussian_process({.every = 7, .newton_steps = 60}).json();
  for (const char* id : {"gp.log_likelihood.start", "gp.log_likelihood.newton", "gp.parameter.season.amplitude",
                         "gp.gradient", "gp.prediction.mean"})
    BOOST_TEST(json.find(fmt::format("\"{}\"", id)) != std::string::npos, id);
}
