// What the program says of the machine, which library multiplies what, and where a step's time goes.
#define BOOST_TEST_MODULE machine
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <armagrad/armagrad.hpp>
#include <armagrad/autodiff/device/products.hpp>
#include <armagrad/autodiff/device/threads.hpp>

#include "refused.hpp"

namespace ag = armagrad;

namespace {

template <class eT>
ag::View<eT> view(arma::Mat<eT>& m, arma::uword rows) {
  return {m.memptr(), static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(m.n_cols),
          static_cast<std::uint32_t>(m.n_rows)};
}

/// The largest deviation of `product` from Armadillo's product in double, in units of k roundings of the largest entry.
template <class eT>
void check_product(bool ta, bool tb, arma::uword m, arma::uword n, arma::uword k) {
  // Leading dimensions larger than the rows, as parts of a matrix have.
  arma::Mat<eT> a((ta ? k : m) + 3, ta ? m : k), b((tb ? n : k) + 1, tb ? k : n), c(m + 2, n);
  a.randu();
  b.randu();
  c.randu();
  const arma::Mat<eT> before = c;
  ag::detail::product<eT>(ta, tb, eT(-0.5), view(a, a.n_rows - 3), view(b, b.n_rows - 1), eT(2), view(c, m));
  const arma::mat x = arma::conv_to<arma::mat>::from(arma::Mat<eT>(a.head_rows(a.n_rows - 3)));
  const arma::mat y = arma::conv_to<arma::mat>::from(arma::Mat<eT>(b.head_rows(b.n_rows - 1)));
  arma::mat wanted = arma::conv_to<arma::mat>::from(before);
  wanted.head_rows(m) = -0.5 * (ta ? arma::mat(x.t()) : x) * (tb ? arma::mat(y.t()) : y) + 2 * wanted.head_rows(m);
  const double error = arma::abs(arma::conv_to<arma::mat>::from(c) - wanted).max();
  const double most = 4 * static_cast<double>(std::numeric_limits<eT>::epsilon()) * static_cast<double>(k + 4);
  BOOST_TEST(error <= most, (ta ? "T" : "N") << (tb ? "T" : "N") << ' ' << m << 'x' << n << 'x' << k << " in "
                                             << 8 * sizeof(eT) << " bits: " << error << ", at most " << most);
}

/// While it lives products and large loops use so many threads.
class Threads {
 public:
  explicit Threads(unsigned count) { ag::set_threads(count); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { ag::set_threads(before_); }

 private:
  unsigned before_ = ag::machine().threads;
};

struct Net : ag::nn::Module<float> {
  ag::nn::Linear<float> l1{6, 5}, l2{5, 3};
  ARMAGRAD_MODULE(l1, l2)
  ag::Var<float> forward(ag::Var<float> x) { return l2(relu(l1(x))); }
};

}  // namespace

BOOST_AUTO_TEST_CASE(products_of_every_path_agree_with_armadillo) {
  arma::arma_rng::set_seed(7);
  // Small, at the edges of being cut into pieces, narrow in each direction, large.
  for (const auto& [m, n, k] : {std::array<arma::uword, 3>{1, 1, 1},
                                {3, 5, 4},
                                {32, 64, 16},
                                {32, 1437, 64},
                                {64, 32, 1437},
                                {10, 128, 1024},
                                {200, 10, 600},
                                {128, 129, 130},
                                {65, 300, 70}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        check_product<float>(ta, tb, m, n, k);
        check_product<double>(ta, tb, m, n, k);
      }
}

BOOST_AUTO_TEST_CASE(products_on_several_threads_agree_with_armadillo) {
  arma::arma_rng::set_seed(8);
  // Cut by columns, by rows, into unequal parts, and too narrow to be cut.
  for (const unsigned threads : {2u, 3u})
    for (const auto& [m, n, k] :
         {std::array<arma::uword, 3>{200, 300, 100}, {300, 150, 120}, {203, 401, 70}, {90, 100, 700}})
      for (const bool ta : {false, true})
        for (const bool tb : {false, true}) {
          const Threads several(threads);
          check_product<float>(ta, tb, m, n, k);
          check_product<double>(ta, tb, m, n, k);
        }
}

BOOST_AUTO_TEST_CASE(a_large_element_wise_command_is_cut_into_a_piece_for_each_thread) {
  struct Seen {
    static void note(const ag::Command<float>& c) {
      for (std::size_t i = 0; i < c.out.size(); ++i) c.out.data[i] = c.in[0].data[i] + *c.in[1].data;
      c.more_out[0].data[0] = static_cast<float>(c.out.size());  // the piece's length at its first place
    }
  };
  const ag::Kernel<float> kernel{"noted", &Seen::note, true};
  arma::fmat x(701, 603, arma::fill::randu), y(701, 603), lengths(701, 603, arma::fill::zeros),
      one(1, 1, arma::fill::ones);
  ag::Command<float> c;
  c.kernel = &kernel;
  c.out = view(y, 701);
  c.more_out[0] = view(lengths, 701);
  c.in[0] = view(x, 701);
  c.in[1] = view(one, 1);
  const auto run = [&](unsigned threads) {
    const Threads several(threads);
    lengths.zeros();
    ag::detail::run_here(c, 0);
    BOOST_TEST(arma::approx_equal(y, x + 1, "absdiff", 0));
    BOOST_TEST(arma::accu(lengths) == static_cast<float>(x.n_elem));
    return arma::accu(lengths != 0);
  };
  BOOST_TEST(run(1) == 1u);
  BOOST_TEST(run(2) == 2u);
  BOOST_TEST(run(3) == 3u);
  arma::fmat row(1, 603, arma::fill::ones);  // what is repeated along rows is not cut
  c.in[1] = view(row, 1);
  BOOST_TEST(run(2) == 1u);
}

BOOST_AUTO_TEST_CASE(training_on_several_threads_gives_the_bits_of_one) {
  arma::arma_rng::set_seed(9);
  const arma::fmat x(600, 500, arma::fill::randn), start(600, 500, arma::fill::randn),
      column(600, 1, arma::fill::randn);
  const auto trained = [&](unsigned threads) {
    const Threads several(threads);
    ag::Parameter<float> w(start);
    ag::optim::Sgd<float> sgd({w.shared()}, {.lr = 0.1, .momentum = 0.9});
    ag::Tape<float> tape;
    for (int i = 0; i < 3; ++i) {
      tape.rewind();
      const auto p = tape.parameter(w);
      const auto y = tanh(p % tape.borrow(x) + tape.constant(column)) / 2 - exp(-square(p));
      sgd.zero_grad();
      (accu(square(y)) / 1e5).backward();
      sgd.step();
    }
    return w.value();
  };
  const arma::fmat one = trained(1);
  BOOST_TEST(arma::abs(one - start).max() > 0);
  BOOST_TEST(arma::approx_equal(trained(2), one, "absdiff", 0));
  BOOST_TEST(arma::approx_equal(trained(3), one, "absdiff", 0));
}

// Of a program of its own, this one, whose BLAS is told to use kernels of the past.
BOOST_AUTO_TEST_CASE(slow_blas_is_told_once_unless_silenced) {
  const auto lines = [](const std::string& environment) {
    const std::string command = environment + " ARMAGRAD_KEEP_BLAS=1 OPENBLAS_CORETYPE=Prescott /proc/" +
                                std::to_string(getpid()) + "/exe --run_test=the_number_of_threads_can_be_set* 2>&1";
    FILE* out = popen(command.c_str(), "r");
    BOOST_REQUIRE(out != nullptr);
    std::string text;
    for (int c = std::fgetc(out); c != EOF; c = std::fgetc(out)) text += static_cast<char>(c);
    BOOST_TEST(pclose(out) == 0, text);
    std::size_t count = 0;
    for (std::size_t at = text.find("does not know this processor"); at != std::string::npos;
         at = text.find("does not know this processor", at + 1))
      ++count;
    return count;
  };
  bool wider = false;
#if defined(__x86_64__) && defined(__GNUC__)
  wider = __builtin_cpu_supports("avx2");
#endif
  if (ag::machine().kernels.empty() || !wider) {
    BOOST_TEST_MESSAGE("skipped: BLAS is not OpenBLAS, or the processor has no wider registers");
    return;
  }
  BOOST_TEST(lines("") == 1u);
  BOOST_TEST(lines("ARMAGRAD_QUIET=1") == 0u);
}

BOOST_AUTO_TEST_CASE(what_says_how_openmp_waits_is_left_as_it_is) {
  // This program went through restart_with_fast_blas() before main.
  const char *policy = std::getenv("OMP_WAIT_POLICY"), *spin = std::getenv("GOMP_SPINCOUNT");
  if (policy == nullptr) BOOST_REQUIRE(spin != nullptr);
  BOOST_REQUIRE_EQUAL(setenv("GOMP_SPINCOUNT", "77", 1), 0);
  setenv("OPENBLAS_CORETYPE", "Haswell", 0);  // so that it does not start again
  ag::restart_with_fast_blas();
  BOOST_TEST(std::string(std::getenv("GOMP_SPINCOUNT")) == "77");
}

BOOST_AUTO_TEST_CASE(a_product_over_nothing_is_zero_or_what_was_there) {
  arma::mat a(3, 0), b(0, 2), c(3, 2, arma::fill::value(arma::datum::nan));
  ag::detail::product<double>(false, false, 1, view(a, 3), view(b, 0), 0, view(c, 3));
  BOOST_TEST(arma::abs(c).max() == 0);
  c.fill(2);
  ag::detail::product<double>(false, false, 1, view(a, 3), view(b, 0), 0.5, view(c, 3));
  BOOST_TEST(arma::approx_equal(c, arma::ones(3, 2), "absdiff", 0));
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_can_be_set_and_small_work_uses_one) {
  ag::Tape<double> first, second;
  const unsigned before = ag::machine().threads;
  ag::set_threads(2);
  BOOST_TEST(ag::machine().threads == 2u);
  {
    const ag::detail::BlasThreads small(1000);
    BOOST_TEST(ag::machine().threads == 2u);  // what large products use, whatever runs now
  }
  ag::set_threads(before);
  refused<ag::OptionError>([] { ag::set_threads(0); }, "set_threads: 0 threads cannot multiply; give at least 1");
}

BOOST_AUTO_TEST_CASE(the_machine_is_named_and_its_products_are_timed) {
  const ag::Machine m = ag::machine();
  BOOST_TEST_MESSAGE(m.cpu << ", " << m.blas << ", loops in " << m.instructions << ", oneDNN '" << m.onednn << "'");
  BOOST_TEST(!m.cpu.empty());
  BOOST_TEST(!m.blas.empty());
  BOOST_TEST((m.instructions == "plain" || m.instructions == "avx2" || m.instructions == "avx512"));
  // The tests start themselves again where BLAS has chosen badly, so nothing is left to advise here.
  if (std::getenv("ARMAGRAD_KEEP_BLAS") == nullptr) BOOST_TEST(m.advice == "");
  const ag::ProductRate rate = ag::product_rate();
  BOOST_TEST(rate.float_measured > 0);
  BOOST_TEST(rate.float_possible > rate.double_possible);
}

BOOST_AUTO_TEST_CASE(a_profile_knows_operations_phases_and_modules) {
  Net net;
  ag::optim::Sgd<float> sgd(net.parameters(), {.lr = 0.1, .momentum = 0.9});
  ag::Tape<float> tape;
  const arma::fmat x(6, 4, arma::fill::randu);
  const arma::Row<std::size_t> y{0, 1, 2, 0};
  const ag::Profile profile = tape.profile([&] {
    const auto loss = ag::nn::cross_entropy(net(tape.constant(x)), y);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  });
  using Phase = ag::Profile::Phase;
  const auto count = [&](const std::string& kernel, Phase phase, const std::string& module) {
    return std::count_if(profile.entries.begin(), profile.entries.end(), [&](const ag::Profile::Entry& e) {
      return e.kernel == kernel && e.phase == phase && profile.modules[e.module].ends_with(module);
    });
  };
  BOOST_TEST(count("gemm", Phase::forward, "l1") == 1);
  BOOST_TEST(count("gemm", Phase::forward, "l2") == 1);
  BOOST_TEST(count("gemm", Phase::backward, "l1") == 1);  // the input wants no gradient
  BOOST_TEST(count("gemm", Phase::backward, "l2") == 2);
  BOOST_TEST(count("cross_entropy", Phase::forward, "") == 1);
  BOOST_TEST(count("sgd", Phase::update, "") == 4);
  for (const auto& e : profile.entries)
    if (std::string(e.kernel) == "gemm" && e.phase == Phase::forward && profile.modules[e.module].ends_with("l1"))
      BOOST_TEST(e.flops == 2 * 5 * 4 * 6);
  BOOST_TEST(profile.seconds > 0);
  BOOST_TEST(profile.share_in_products() > 0);
  BOOST_TEST(profile.share_in_products() < 1);
  const std::string table = profile.table();
  for (const char* word : {"affine", "cross_entropy", "relu", "l1", "l2", "update", "in products"})
    BOOST_TEST(table.find(word) != std::string::npos, word << " is not in\n" << table);

  const auto file = std::filesystem::temp_directory_path() / ("armagrad_trace_" + std::to_string(getpid()) + ".json");
  profile.write_trace(file.string());
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  std::filesystem::remove(file);
  const auto trace = nlohmann::json::parse(text.str());
  BOOST_TEST(trace.at("traceEvents").size() == profile.entries.size());
  BOOST_TEST(trace.at("traceEvents").at(0).at("ph") == "X");

  // Afterwards nobody watches: the same step records and runs as before, and can be profiled again.
  tape.rewind();
  const auto again = tape.profile([&] { (void)net(tape.constant(x)); });
  BOOST_TEST(again.entries.size() < profile.entries.size());
  refused<ag::StateError>([&] { (void)tape.profile([&] { (void)tape.profile([] {}); }); },
                          "profile: another profile is being made in this thread");
}
