// Model files: against the public safetensors package and PyTorch (files stored by peers/safetensors.py), damaged ones,
// and a module's parameters to and from them.
#define BOOST_TEST_MODULE safetensors
#include <array>
#include <bit>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <armagrad/armagrad.hpp>

#include "refused.hpp"

namespace ag = armagrad;
namespace fs = std::filesystem;
using ag::nn::Linear;
using ag::nn::Module;
using ag::nn::Tensor;
using ag::nn::Tensors;

namespace {

const fs::path peers = fs::path(ARMAGRAD_SOURCE_DIR) / "tests/peers/safetensors";

struct Folder {
  fs::path path = fs::temp_directory_path() / fmt::format("armagrad_safetensors_{}", getpid());
  Folder() { fs::create_directories(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
};

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// name -> the numbers that the peer wrote as text, in row-major order.
std::map<std::string, std::vector<std::string>> figures(const std::string& file) {
  std::map<std::string, std::vector<std::string>> out;
  std::ifstream in(peers / file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name, shape;
    words >> name >> shape;
    out[name] = {std::istream_iterator<std::string>(words), {}};
  }
  return out;
}

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// A file with this header and so many bytes of data.
std::string file_of(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof(length));
  return out + header + std::string(data, '\0');
}

void bad(const std::string& bytes, const std::string& message) {
  refused<ag::DataError>([&] { ag::nn::parse_safetensors(bytes, "m.safetensors"); }, "m.safetensors: " + message);
}
void bad_header(const std::string& header, std::size_t data, const std::string& message) {
  bad(file_of(header, data), message);
}
void bad_entry(const std::string& entry, const std::string& message) {
  bad_header("{\"a\":" + entry + "}", 8, message);
}

struct Net : Module<float> {
  Linear<float> l1{3, 4}, l2{4, 2};
  ARMAGRAD_MODULE(l1, l2)
  ag::Var<float> forward(ag::Var<float> x) { return l2(relu(l1(x))); }
};

struct Wide : Module<double> {
  Linear<double> l1{3, 4}, l2{4, 2};
  ARMAGRAD_MODULE(l1, l2)
  ag::Var<double> forward(ag::Var<double> x) { return l2(relu(l1(x))); }
};

struct Counting : Module<float> {
  Linear<float> l1{3, 4};
  ag::nn::Dropout<float> drop{0.5, 7};
  ARMAGRAD_MODULE(l1, drop)
  ag::Var<float> forward(ag::Var<float> x) { return drop(l1(x)); }
};

struct Tied : Module<float> {
  std::shared_ptr<Linear<float>> a = std::make_shared<Linear<float>>(3, 3), b = a;
  ARMAGRAD_MODULE(a, b)
  ag::Var<float> forward(ag::Var<float> x) { return (*b)((*a)(x)); }
};

template <class M>
std::vector<double> values_of(M& module) {
  std::vector<double> out;
  for (const auto& p : module.named_parameters())
    for (const auto v : p.parameter->value()) out.push_back(static_cast<double>(v));
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(reading)

BOOST_AUTO_TEST_CASE(half_and_bfloat_come_as_the_same_floats) {
  const Tensors file = ag::nn::read_safetensors(peers / "narrow.safetensors");
  const auto expected = figures("narrow.txt");
  BOOST_TEST(file.arrays.size() == 2);
  for (const auto& [name, tensor] : file.arrays) {
    const auto& values = std::get<std::vector<float>>(tensor.values);
    const auto& figure = expected.at(name);
    BOOST_TEST_REQUIRE(values.size() == figure.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      BOOST_TEST(same_bits(values[i], std::strtof(figure[i].c_str(), nullptr)), name << " " << figure[i]);
  }
  BOOST_TEST(file.arrays.at("bfloat").shape == (std::vector<std::uint64_t>{2, 5}));
}

BOOST_AUTO_TEST_CASE(matrices_are_row_major_in_the_file) {
  const Tensors file = ag::nn::read_safetensors(peers / "peer.safetensors");
  const arma::fmat weight = file.matrix<float>("weight");
  BOOST_TEST(weight.n_rows == 2);
  BOOST_TEST(weight.n_cols == 3);
  BOOST_TEST(weight(0, 1) == -2.0f);
  BOOST_TEST(weight(0, 2) == 1.0f / 3);
  BOOST_TEST(weight(1, 0) == std::bit_cast<float>(3u));  // 4e-45
  BOOST_TEST(std::isnan(weight(1, 1)));
  const arma::mat wide = file.matrix<double>("bias");  // 2 x 1, widened
  BOOST_TEST(wide.n_rows == 2);
  BOOST_TEST(wide.n_cols == 1);
  BOOST_TEST(wide(0) == static_cast<double>(0.1f));
  BOOST_TEST(file.matrix<float>("empty").n_cols == 3);
  BOOST_TEST(file.matrix<double>("double")(0, 1) == 5e-324);
  BOOST_TEST(file.words("random") == (std::vector<std::uint64_t>{0, 1, ~std::uint64_t{0}}));
  BOOST_TEST(std::get<std::vector<std::int64_t>>(file.arrays.at("counter").values).front() == -5);
  BOOST_TEST(file.arrays.at("counter").shape.empty());
  BOOST_TEST(file.metadata.at("model") == "a \"quoted\" name, größer\n");
}

BOOST_AUTO_TEST_CASE(what_an_array_is_not_is_said) {
  Tensors file = ag::nn::read_safetensors(peers / "peer.safetensors");
  file.source = "m.safetensors";
  refused<ag::DataError>([&] { file.matrix<float>("w"); },
                         "m.safetensors: it has no array \"w\"; it has bias, counter, double, empty, größe, random, "
                         "weight.");
  refused<ag::DataError>([&] { file.matrix<float>("double"); },
                         "m.safetensors: \"double\" is of type F64; F32 is expected.");
  refused<ag::DataError>([&] { file.matrix<double>("random"); },
                         "m.safetensors: \"random\" is of type U64; F64 is expected.");
  refused<ag::DataError>([&] { file.words("bias"); }, "m.safetensors: \"bias\" is of type F32; U64 is expected.");
  file.arrays["cube"] = Tensor(arma::fmat(2, 3));
  file.arrays["cube"].shape = {1, 2, 3};
  refused<ag::DataError>([&] { file.matrix<float>("cube"); },
                         "m.safetensors: \"cube\" has 3 dimensions; a matrix has at most 2.");
  file.arrays["cube"].shape = {2, 2};
  refused<ag::ValueError>([&] { file.matrix<float>("cube"); },
                          "m.safetensors: \"cube\" is of shape [2, 2] but has 6 values.");
}

BOOST_AUTO_TEST_CASE(a_file_that_is_not_whole_is_refused) {
  const std::string whole = bytes_of(peers / "pytorch.safetensors");
  for (std::size_t n = 0; n < whole.size(); ++n)
    BOOST_CHECK_THROW(ag::nn::parse_safetensors(std::string_view(whole).substr(0, n), "m"), ag::DataError);
  bad(whole.substr(0, 5), "it has 5 bytes, too few for a safetensors file; it is cut off or something else.");
  bad(whole.substr(0, 100),
      "it claims a header of 288 bytes, but only 92 follow: the file is cut off or not a safetensors file.");
  bad(whole.substr(0, whole.size() - 3),
      "the arrays take 104 bytes, but 101 are there: the file is cut off. Get or write it again.");
  bad(whole + "more", "4 bytes follow the last array; the file is damaged or not a safetensors file.");
}

BOOST_AUTO_TEST_CASE(a_header_that_cannot_be_is_refused) {
  std::string large = file_of("{}", 0);
  large[4] = 1;
  bad(large,
      "it claims a header of 4294967298 bytes, and 100000000 are allowed; the file is damaged or not a safetensors "
      "file.");
  bad_header("{\"a\":", 0, "its header is no JSON (byte 6 of it); the file is damaged or not a safetensors file.");
  bad_header("[1]", 0, "its header is no JSON object; the file is damaged or not a safetensors file.");
  bad_header(std::string(100000, '['), 0,
             "its header is no JSON (byte 100001 of it); the file is damaged or not a safetensors file.");
  bad_header("{\"\xff\":1}", 0, "its header is no JSON (byte 3 of it); the file is damaged or not a safetensors file.");
  bad_header(
      R"({"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})", 8,
      "its header names \"a\" twice; the file is damaged.");
  bad_entry(R"({"dtype":"F64","dtype":"F32","shape":[],"data_offsets":[0,8]})",
            "its header names \"dtype\" twice; the file is damaged.");
  bad_header(R"({"__metadata__":3})", 0, "its metadata is no JSON object; the file is damaged.");
  bad_header(R"({"__metadata__":{"epoch":3}})", 0, "its metadata \"epoch\" is no text; the file is damaged.");

  const std::string incomplete = "its header gives no dtype, shape and data_offsets for \"a\"; the file is damaged.";
  bad_entry("3", incomplete);
  bad_entry(R"({"shape":[],"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":1,"shape":[],"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":"F64","shape":[-1],"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":"F64","shape":[1.0],"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":"F64","shape":1,"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":"F64","shape":[],"data_offsets":[0,8,8]})", incomplete);
  bad_entry(R"({"dtype":"F64","shape":[18446744073709551616],"data_offsets":[0,8]})", incomplete);
  bad_entry(R"({"dtype":"I8","shape":[8],"data_offsets":[0,8]})",
            "\"a\" is of type I8; F16, BF16, F32, F64, I64 and U64 can be read. Convert it before saving.");
}

BOOST_AUTO_TEST_CASE(arrays_placed_where_they_cannot_be_are_refused) {
  bad_entry(R"({"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]})",
            "\"a\" has shape [4294967296, 4294967296], more numbers than any file holds; the file is damaged.");
  bad_entry(R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]})",  // times 8 bytes is 2^64
            "\"a\" has shape [2305843009213693952], more numbers than any file holds; the file is damaged.");
  bad_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})",
            "\"a\" is of shape [1] and type F32, so 4 bytes, but placed from 0 to 8; the file is damaged.");
  bad_entry(R"({"dtype":"F64","shape":[1],"data_offsets":[8,0]})",
            "\"a\" is of shape [1] and type F64, so 8 bytes, but placed from 8 to 0; the file is damaged.");
  bad_entry(R"({"dtype":"F64","shape":[2],"data_offsets":[0,16]})",
            "the arrays take 16 bytes, but 8 are there: the file is cut off. Get or write it again.");
  bad_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})",
            "bytes 0 to 4 of the data belong to no array; the file is damaged.");
  bad_header(
      R"({"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},"b":{"dtype":"F64","shape":[],"data_offsets":[8,16]}})",
      16, "\"b\" begins at byte 8 of the data, where \"a\" has not ended (16); the file is damaged.");
  bad_header(
      R"({"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"b":{"dtype":"F64","shape":[],"data_offsets":[16,24]}})",
      24, "bytes 8 to 16 of the data belong to no array; the file is damaged.");
}

BOOST_AUTO_TEST_CASE(other_files_are_named) {
  const std::string pt = peers / "pytorch.pt";
  refused<ag::DataError>([&] { ag::nn::read_safetensors(pt); },
                         pt +
                             ": this is a PyTorch or other pickle file, not safetensors. Convert it in Python:\n"
                             "  import torch, safetensors.torch\n"
                             "  weights = torch.load(\"" +
                             pt +
                             "\", map_location=\"cpu\", weights_only=True)  # a state_dict\n"
                             "  safetensors.torch.save_file({k: v.contiguous() for k, v in weights.items()}, \"" +
                             pt + ".safetensors\")");
  refused<ag::DataError>([&] { ag::nn::read_safetensors("nowhere/m.safetensors"); },
                         "nowhere/m.safetensors cannot be read (No such file or directory).");
  refused<ag::DataError>([&] { ag::nn::read_safetensors(peers); },
                         peers.string() + " cannot be read (Is a directory).");
  // A header of 640 bytes begins as a pickle does.
  std::string header = R"({"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})";
  header.resize(640, ' ');
  BOOST_TEST(ag::nn::parse_safetensors(file_of(header, 8), "m").arrays.size() == 1);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(writing)

// With ARMAGRAD_KEEP=FOLDER the file stays there, for `peers/safetensors.py check`.
BOOST_AUTO_TEST_CASE(the_bytes_are_those_of_the_public_package) {
  const Folder folder;
  const char* keep = std::getenv("ARMAGRAD_KEEP");
  const std::string path =
      keep != nullptr ? std::string(keep) + "/written.safetensors" : folder / "written.safetensors";
  const Tensors peer = ag::nn::read_safetensors(peers / "peer.safetensors");
  ag::nn::write_safetensors(path, peer);
  BOOST_TEST(bytes_of(path) == bytes_of(peers / "peer.safetensors"));
  if (keep == nullptr) BOOST_TEST(folder.files() == 1);
}

BOOST_AUTO_TEST_CASE(matrices_words_and_counts_come_back) {
  const Folder folder;
  Tensors out;
  out.arrays["matrix"] = Tensor(arma::fmat{{1, 2, 3}, {4, 5, 6}});
  out.arrays["double"] = Tensor(arma::mat{{1, 2}, {3, 4}, {5, 6}});
  out.arrays["vector"] = Tensor::vector<double>(arma::vec{1, 2, 3});
  out.arrays["words"] = Tensor(std::vector<std::uint64_t>{1, 2});
  out.arrays["count"] = Tensor(std::uint64_t{3});
  out.metadata = {{"epoch", "12"}, {"model", "Mlp"}};
  ag::nn::write_safetensors(folder / "m", out);
  const Tensors in = ag::nn::read_safetensors(folder / "m");
  BOOST_TEST(arma::approx_equal(in.matrix<float>("matrix"), arma::fmat({{1, 2, 3}, {4, 5, 6}}), "absdiff", 0));
  BOOST_TEST(arma::approx_equal(in.matrix<double>("double"), arma::mat({{1, 2}, {3, 4}, {5, 6}}), "absdiff", 0));
  BOOST_TEST(in.arrays.at("vector").shape == (std::vector<std::uint64_t>{3}));
  BOOST_TEST(arma::approx_equal(in.matrix<double>("vector"), arma::mat(arma::vec{1, 2, 3}), "absdiff", 0));
  BOOST_TEST(in.words("words") == (std::vector<std::uint64_t>{1, 2}));
  BOOST_TEST(in.words("count") == std::vector<std::uint64_t>{3});
  BOOST_TEST(in.arrays.at("count").shape.empty());
  BOOST_TEST((in.metadata == out.metadata));
  BOOST_TEST(in.source == folder / "m");

  ag::nn::write_safetensors(folder / "empty", {});
  BOOST_TEST(ag::nn::read_safetensors(folder / "empty").arrays.empty());
}

BOOST_AUTO_TEST_CASE(what_the_format_cannot_hold_is_refused) {
  const Folder folder;
  const auto refuse = [&](const std::string& name, const std::vector<std::uint64_t>& shape, const std::string& why) {
    Tensors out;
    out.arrays[name] = Tensor(arma::fmat(1, 2));
    out.arrays[name].shape = shape;
    refused<ag::ValueError>([&] { ag::nn::write_safetensors(folder / "m", out); }, folder / "m: " + why);
  };
  refuse("__metadata__", {1, 2}, "no array can be called __metadata__, the format's name for its texts.");
  refuse("a", {3}, "\"a\" is of shape [3] but has 2 values.");
  refuse("\xff", {1, 2}, "the names and texts of a safetensors file must be UTF-8.");
  BOOST_TEST(folder.files() == 0);
}

BOOST_AUTO_TEST_CASE(a_full_disk_leaves_the_old_file_and_nothing_else) {
  const Folder folder;
  Net net;
  ag::nn::save(net, folder / "m.safetensors", {{"old", "yes"}});
  const std::string before = bytes_of(folder / "m.safetensors");

  // A disk that takes 200 bytes more.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{200, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string said;
  try {
    ag::nn::save(net, folder / "m.safetensors");
  } catch (const ag::DataError& error) {
    said = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &limit);
  BOOST_TEST(said == folder / "m.safetensors" +
                         " cannot be written (File too large); what was there is unchanged. Free some space or name "
                         "another file.");
  BOOST_TEST(bytes_of(folder / "m.safetensors") == before);
  BOOST_TEST(folder.files() == 1);

  refused<ag::DataError>([&] { ag::nn::save(net, folder / "none/m.safetensors"); },
                         folder / "none/m.safetensors" +
                             " cannot be written (No such file or directory); what was there is unchanged. Free some "
                             "space or name another file.");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(modules)

BOOST_AUTO_TEST_CASE(a_file_from_pytorch_loads_bit_for_bit) {
  Net net;
  const auto texts = ag::nn::load(net, peers / "pytorch.safetensors");
  BOOST_TEST(texts.at("format") == "pt");
  const auto expected = figures("pytorch.txt");
  for (const auto& p : net.named_parameters()) {
    const arma::fmat value = p.parameter->value();
    const auto& figure = expected.at(p.name);
    BOOST_TEST_REQUIRE(value.n_elem == figure.size());
    for (arma::uword r = 0; r < value.n_rows; ++r)
      for (arma::uword c = 0; c < value.n_cols; ++c)
        BOOST_TEST(same_bits(value(r, c), std::strtof(figure[r * value.n_cols + c].c_str(), nullptr)));
  }
  // And the network gives what it gave there: x is 5 x 3 samples by features.
  arma::fmat x(3, 5);
  for (arma::uword i = 0; i < x.n_elem; ++i) x(i) = std::strtof(expected.at("x")[i].c_str(), nullptr);
  ag::Tape<float> tape;
  const arma::fmat y = net(tape.constant(x)).value();  // 2 x 5
  for (arma::uword i = 0; i < y.n_elem; ++i)
    BOOST_TEST(std::abs(y(i) - std::strtof(expected.at("y")[i].c_str(), nullptr)) < 1e-7f);
}

BOOST_AUTO_TEST_CASE(a_saved_module_is_the_file_that_pytorch_wrote) {
  const Folder folder;
  Net net;
  ag::nn::load(net, peers / "pytorch.safetensors");
  ag::nn::save(net, folder / "m.safetensors", {{"format", "pt"}});
  BOOST_TEST(bytes_of(folder / "m.safetensors") == bytes_of(peers / "pytorch.safetensors"));
}

BOOST_AUTO_TEST_CASE(single_precision_loads_into_double) {
  Net net;
  Wide wide;
  ag::nn::load(net, peers / "pytorch.safetensors");
  ag::nn::load(wide, peers / "pytorch.safetensors");
  BOOST_TEST(values_of(net) == values_of(wide));
}

BOOST_AUTO_TEST_CASE(another_architecture_is_refused_in_detail_and_nothing_is_loaded) {
  Net net;
  Tensors file = ag::nn::state(net);
  file.source = "m.safetensors";
  file.arrays["l1.weight"] = Tensor(arma::fmat(5, 3, arma::fill::zeros));
  file.arrays["l1.bias"] = Tensor(std::vector<std::uint64_t>(4));
  file.arrays["l2.bias"] = Tensor(arma::mat(2, 1, arma::fill::zeros));
  file.arrays["l3.bias"] = file.arrays["l2.weight"];
  file.arrays.erase("l2.weight");
  const auto before = values_of(net);
  refused<ag::DataError>([&] { ag::nn::set_state(net, file); },
                         "m.safetensors does not fit Net, and nothing was loaded:\n"
                         "  l1.weight is 5x3, the module's is 4x3\n"
                         "  l1.bias holds integers, the module's is float\n"
                         "  l2.weight is missing\n"
                         "  l2.bias is double, the module's is float: save it in single precision\n"
                         "  l3.bias is not in the module");
  BOOST_TEST(values_of(net) == before);

  file = ag::nn::state(net);
  for (int i = 0; i < 10; ++i) file.arrays[fmt::format("x{}", i)] = Tensor(std::uint64_t{1});
  file.arrays["l1.weight"].shape = {4, 3, 1};
  file.source = "m.safetensors";
  refused<ag::DataError>([&] { ag::nn::set_state(net, file); },
                         "m.safetensors does not fit Net, and nothing was loaded:\n"
                         "  l1.weight is [4, 3, 1], the module's is 4x3\n"
                         "  x0 is not in the module\n"
                         "  x1 is not in the module\n"
                         "  x2 is not in the module\n"
                         "  x3 is not in the module\n"
                         "  x4 is not in the module\n"
                         "  x5 is not in the module\n"
                         "  x6 is not in the module\n"
                         "  and 3 more");
}

BOOST_AUTO_TEST_CASE(counters_are_saved_and_files_without_them_load) {
  const Folder folder;
  Counting module;
  module.drop.calls = 41;
  ag::nn::save(module, folder / "m");
  Counting other;
  ag::nn::load(other, folder / "m");
  BOOST_TEST(other.drop.calls == 41);

  Tensors file = ag::nn::read_safetensors(folder / "m");
  file.arrays["drop.calls"].values = std::vector<std::int64_t>{7};  // as PyTorch keeps counters
  ag::nn::set_state(other, file);
  BOOST_TEST(other.drop.calls == 7);
  file.arrays.erase("drop.calls");
  ag::nn::set_state(other, file);
  BOOST_TEST(other.drop.calls == 7);
  file.arrays["drop.calls"] = Tensor(arma::fmat(1, 1));
  file.source = "m";
  refused<ag::DataError>([&] { ag::nn::set_state(other, file); },
                         "m does not fit Counting, and nothing was loaded:\n  drop.calls is no single count");
}

BOOST_AUTO_TEST_CASE(a_checkpoint_holds_a_model_beside_other_arrays) {
  const Folder folder;
  Net net;
  Tensors checkpoint = ag::nn::state(net, "model.");
  checkpoint.arrays["velocity.l1.weight"] = Tensor(arma::fmat(4, 3, arma::fill::ones));
  checkpoint.arrays["random"] = Tensor(std::vector<std::uint64_t>{1, 2, 3});
  checkpoint.metadata["epoch"] = "12";
  ag::nn::write_safetensors(folder / "c", checkpoint);

  Net other;
  const Tensors read = ag::nn::read_safetensors(folder / "c");
  ag::nn::set_state(other, read, "model.");
  BOOST_TEST(values_of(other) == values_of(net));
  BOOST_TEST(arma::accu(read.matrix<float>("velocity.l1.weight")) == 12);
  BOOST_TEST(read.words("random").back() == 3);
  BOOST_TEST(read.metadata.at("epoch") == "12");
}

BOOST_AUTO_TEST_CASE(shared_parameters_and_copies) {
  Tied tied;
  BOOST_TEST(ag::nn::state(tied).arrays.size() == 2);  // a.weight, a.bias
  const Linear<float> layer(3, 2);
  Linear<float> copy = layer;
  BOOST_TEST(ag::nn::state(copy).arrays.at("bias").shape == (std::vector<std::uint64_t>{2}));
  Linear<float> one(1, 2);  // a weight of one column stays a matrix
  BOOST_TEST(ag::nn::state(one).arrays.at("weight").shape == (std::vector<std::uint64_t>{2, 1}));

  struct Twice : Module<float> {
    ag::Parameter<float> a{1, 1}, b{1, 1};
    void visit(ag::nn::Visitor& visitor) override { visitor.all("a,a", a, b); }
  } twice;
  refused<ag::StateError>([&] { ag::nn::state(twice); }, "state: two members of Twice are called a");
}

BOOST_AUTO_TEST_SUITE_END()
