// The generated suite: every listed operation x its samples x element type. A file of operations without its list does
// not link (see autodiff/operations.cpp); an operation left out of its file's list is found here.
#define BOOST_TEST_MODULE operations
#include <filesystem>
#include <fstream>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>

#include <boost/test/unit_test.hpp>

#include <armagrad/autodiff/samples.hpp>

namespace ag = armagrad;

constexpr std::uint64_t seed = 20240229;

BOOST_AUTO_TEST_CASE(every_operation_with_samples_is_listed) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ARMAGRAD_SOURCE_DIR "/autodiff/ops")) {
    if (entry.path().extension() != ".cpp") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string source = text.str();
    const std::size_t list_at = source.find("ARMAGRAD_LIST_OPERATIONS(");
    if (list_at == std::string::npos) continue;  // elementwise.cpp lists the rows of its table
    std::set<std::string> listed;
    const std::regex word("\\w+"), head("\nstruct (\\w+) (: [^{]*)?\\{");
    for (std::sregex_iterator w(source.begin() + std::ptrdiff_t(list_at), source.end(), word), end; w != end; ++w)
      listed.insert(w->str());
    for (std::sregex_iterator s(source.begin(), source.end(), head), end; s != end; ++s) {
      const std::string name = (*s)[1];
      const std::string body = source.substr(
          std::size_t(s->position()), source.find("\n};", std::size_t(s->position())) - std::size_t(s->position()));
      if (body.find("static void samples(") == std::string::npos) continue;
      ++found;
      bool is_listed = listed.contains(name);
      const std::regex alias("using (\\w+) = " + name + "<");
      for (std::sregex_iterator a(source.begin(), source.end(), alias); a != end; ++a)
        is_listed = is_listed || listed.contains((*a)[1]);
      BOOST_CHECK_MESSAGE(is_listed,
                          name << " of " << entry.path() << " is not in its file's ARMAGRAD_LIST_OPERATIONS");
    }
  }
  BOOST_TEST(found >= 30);
}

BOOST_AUTO_TEST_CASE(every_operation_passes_its_samples) {
  ag::OperationCheck all;
  std::set<std::string> names;
  for (const ag::ListedOperation& operation : ag::all_operations()) {
    const ag::OperationCheck r = ag::check_operation(operation, seed);
    BOOST_CHECK_MESSAGE(r.ok, r.log);
    names.insert(operation.name);
    all.samples += r.samples;
    all.refusals += r.refusals;
    all.gradient_entries += r.gradient_entries;
    all.second_derivatives += r.second_derivatives;
    all.nonlinear_samples += r.nonlinear_samples;
    all.directional += r.directional;
    all.worst_directional = std::max(all.worst_directional, r.worst_directional);
    all.worst_transpose = std::max(all.worst_transpose, r.worst_transpose);
    for (const int k : {0, 1}) all.worst_value[k] = std::max(all.worst_value[k], r.worst_value[k]);
    all.worst_gradient = std::max(all.worst_gradient, r.worst_gradient);
    all.worst_second_derivative = std::max(all.worst_second_derivative, r.worst_second_derivative);
    all.uncertainty = std::max(all.uncertainty, r.uncertainty);
  }
  std::cout << names.size() << " operations, " << all.samples << " samples (" << all.refusals
            << " that must be refused), 2 element types, seed " << seed << "\n"
            << "largest deviation of a value: " << all.worst_value[0] << " in float, " << all.worst_value[1]
            << " in double\n"
            << "gradients: " << all.gradient_entries << " entries, largest error " << all.worst_gradient
            << ", of the differences themselves " << all.uncertainty << "\n"
            << "gradients of gradients: " << all.second_derivatives << " entries, largest error "
            << all.worst_second_derivative << "\n"
            << "forward mode: " << all.directional << " entries of J v, largest error " << all.worst_directional
            << "; largest difference of <u, J v> and <J'u, v> " << all.worst_transpose << "\n";
  BOOST_TEST(names.size() >= 60u);
  BOOST_TEST(all.samples >= 400u);
  BOOST_TEST(all.refusals >= 40u);
  BOOST_TEST(all.gradient_entries > 1000u);
  BOOST_TEST(all.directional > 1000u);
  BOOST_TEST(all.nonlinear_samples > 60u);  // the check does see second derivatives
}
