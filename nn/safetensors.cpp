#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>
#include <armagrad/nn/safetensors.hpp>

namespace armagrad::nn {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::uint64_t header_limit = 100'000'000;  // bytes; the format's own
constexpr std::string_view metadata_key = "__metadata__";

/// 32 bits of a float from 16 bits of IEEE half precision (1 + 5 + 10 bits).
float from_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13));
}

float from_bfloat(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

template <class T>
Tensor::Values copy(std::string_view bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

template <float (*widen)(std::uint16_t)>
Tensor::Values widened(std::string_view bytes) {
  std::vector<float> out(bytes.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    out[i] = widen(bits);
  }
  return out;
}

struct Type {
  const char* name;
  std::uint64_t bytes;
  Tensor::Values (*read)(std::string_view);
};
// The first four as in Tensor::Values: these are written, too.
constexpr std::array types = {Type{"F32", 4, copy<float>},        Type{"F64", 8, copy<double>},
                              Type{"I64", 8, copy<std::int64_t>}, Type{"U64", 8, copy<std::uint64_t>},
                              Type{"F16", 2, widened<from_half>}, Type{"BF16", 2, widened<from_bfloat>}};

const Type& type_of(const Tensor& tensor) { return types[tensor.values.index()]; }

/// How many numbers an array of that shape has; none when 64 bits cannot say.
std::optional<std::uint64_t> count(const std::vector<std::uint64_t>& shape) {
  std::uint64_t n = 1;
  for (const std::uint64_t d : shape) {
    if (d != 0 && n > std::numeric_limits<std::uint64_t>::max() / d) return {};
    n *= d;
  }
  return n;
}

void check_count(const Tensor& tensor, const std::string& name, const std::string& source) {
  const std::uint64_t n = std::visit([](const auto& values) { return std::uint64_t{values.size()}; }, tensor.values);
  if (count(tensor.shape) != n)
    throw ValueError(
        fmt::format("{}: \"{}\" is of shape [{}] but has {} values.", source, name, fmt::join(tensor.shape, ", "), n));
}

template <class... Args>
[[noreturn]] void fail(const std::string& source, fmt::format_string<Args...> text, Args&&... args) {
  throw DataError(source + ": " + fmt::format(text, std::forward<Args>(args)...));
}

/// The JSON of the header; no key may come twice in an object, which the JSON library would let pass.
nlohmann::json parse_header(std::string_view text, const std::string& source) {
  using nlohmann::json;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      fail(source, "its header names \"{}\" twice; the file is damaged.", value.get<std::string>());
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& error) {
    fail(source, "its header is no JSON (byte {} of it); the file is damaged or not a safetensors file.", error.byte);
  }
}

struct Entry {
  std::string name;
  std::vector<std::uint64_t> shape;
  const Type* type;
  std::uint64_t begin, end;  // bytes of the data
};

Entry read_entry(const std::string& name, const nlohmann::json& json, const std::string& source) {
  const auto numbers = [](const nlohmann::json& list) {
    return list.is_array() && std::all_of(list.begin(), list.end(), [](auto& n) { return n.is_number_unsigned(); });
  };
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() || !json.contains("shape") ||
      !numbers(json["shape"]) || !json.contains("data_offsets") || !numbers(json["data_offsets"]) ||
      json["data_offsets"].size() != 2)
    fail(source, "its header gives no dtype, shape and data_offsets for \"{}\"; the file is damaged.", name);

  const auto dtype = json["dtype"].get<std::string>();
  const auto* const type = std::find_if(types.begin(), types.end(), [&](const Type& t) { return t.name == dtype; });
  if (type == types.end())
    fail(source, "\"{}\" is of type {}; F16, BF16, F32, F64, I64 and U64 can be read. Convert it before saving.", name,
         dtype);
  Entry entry{name, json["shape"].get<std::vector<std::uint64_t>>(), type, json["data_offsets"][0].get<std::uint64_t>(),
              json["data_offsets"][1].get<std::uint64_t>()};
  const auto n = count(entry.shape);
  if (!n || *n > std::numeric_limits<std::uint64_t>::max() / type->bytes)
    fail(source, "\"{}\" has shape [{}], more numbers than any file holds; the file is damaged.", name,
         fmt::join(entry.shape, ", "));
  if (entry.begin > entry.end || entry.end - entry.begin != *n * type->bytes)
    fail(source, "\"{}\" is of shape [{}] and type {}, so {} bytes, but placed from {} to {}; the file is damaged.",
         name, fmt::join(entry.shape, ", "), type->name, *n * type->bytes, entry.begin, entry.end);
  return entry;
}

/// The arrays must follow each other from the first byte of the data to the last.
void check_places(std::vector<Entry>& entries, std::uint64_t data, const std::string& source) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.begin < end)
      fail(source, "\"{}\" begins at byte {} of the data, where \"{}\" has not ended ({}); the file is damaged.",
           entry.name, entry.begin, entries[i - 1].name, end);
    if (entry.begin > end)
      fail(source, "bytes {} to {} of the data belong to no array; the file is damaged.", end, entry.begin);
    end = entry.end;
  }
  if (end > data)
    fail(source, "the arrays take {} bytes, but {} are there: the file is cut off. Get or write it again.", end, data);
  if (end < data)
    fail(source, "{} bytes follow the last array; the file is damaged or not a safetensors file.", data - end);
}

void refuse_pickle(std::string_view bytes, const std::string& source) {
  // PyTorch files are zips, before version 1.6 bare pickles; the length of a header may begin with the same bytes.
  const bool zip = bytes.starts_with("PK\x03\x04"), pickle = bytes.starts_with("\x80\x02");
  if ((!zip && !pickle) || (bytes.size() > 8 && bytes[8] == '{')) return;
  fail(source, R"(this is a PyTorch or other pickle file, not safetensors. Convert it in Python:
  import torch, safetensors.torch
  weights = torch.load("{0}", map_location="cpu", weights_only=True)  # a state_dict
  safetensors.torch.save_file({{k: v.contiguous() for k, v in weights.items()}}, "{0}.safetensors"))",
       source);
}

template <class eT>
Tensor::Values row_major(const arma::Mat<eT>& m) {
  std::vector<eT> out(m.n_elem);
  arma::Mat<eT> aliased(out.data(), m.n_cols, m.n_rows, false, true);  // column-major transposed
  aliased = m.t();
  return out;
}

const Tensor& find(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.arrays.find(name);
  if (found != tensors.arrays.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [other, tensor] : tensors.arrays) names.push_back(other);
  fail(tensors.source, "it has no array \"{}\"; it has {}.", name,
       names.empty() ? std::string("none") : fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace

Tensor::Tensor(const arma::fmat& matrix) : shape{matrix.n_rows, matrix.n_cols}, values(row_major(matrix)) {}
Tensor::Tensor(const arma::mat& matrix) : shape{matrix.n_rows, matrix.n_cols}, values(row_major(matrix)) {}
Tensor::Tensor(std::vector<std::uint64_t> words) : shape{words.size()}, values(std::move(words)) {}
Tensor::Tensor(std::uint64_t counter) : values(std::vector{counter}) {}

template <class eT>
Tensor Tensor::vector(const arma::Mat<eT>& column) {
  Tensor out(column);
  out.shape = {column.n_elem};
  return out;
}
template Tensor Tensor::vector(const arma::Mat<float>&);
template Tensor Tensor::vector(const arma::Mat<double>&);

template <class eT>
arma::Mat<eT> Tensors::matrix(const std::string& name) const {
  const Tensor& tensor = find(*this, name);
  if (tensor.shape.size() > 2)
    fail(source, "\"{}\" has {} dimensions; a matrix has at most 2.", name, tensor.shape.size());
  check_count(tensor, name, source);
  const arma::uword rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const arma::uword cols = tensor.shape.size() < 2 ? 1 : tensor.shape[1];
  if (const auto* same = std::get_if<std::vector<eT>>(&tensor.values))
    return arma::Mat<eT>(const_cast<eT*>(same->data()), cols, rows, false, true).t();  // read only
  if constexpr (std::is_same_v<eT, double>) {
    if (std::holds_alternative<std::vector<float>>(tensor.values))
      return arma::conv_to<arma::mat>::from(matrix<float>(name));
  }
  fail(source, "\"{}\" is of type {}; {} is expected.", name, type_of(tensor).name,
       std::is_same_v<eT, float> ? "F32" : "F64");
}
template arma::Mat<float> Tensors::matrix(const std::string&) const;
template arma::Mat<double> Tensors::matrix(const std::string&) const;

const std::vector<std::uint64_t>& Tensors::words(const std::string& name) const {
  const Tensor& tensor = find(*this, name);
  if (const auto* words = std::get_if<std::vector<std::uint64_t>>(&tensor.values)) return *words;
  fail(source, "\"{}\" is of type {}; U64 is expected.", name, type_of(tensor).name);
}

Tensors parse_safetensors(std::string_view bytes, const std::string& source) {
  refuse_pickle(bytes, source);
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length))
    fail(source, "it has {} bytes, too few for a safetensors file; it is cut off or something else.", bytes.size());
  std::memcpy(&length, bytes.data(), sizeof(length));
  bytes.remove_prefix(sizeof(length));
  if (length > header_limit)
    fail(source, "it claims a header of {} bytes, and {} are allowed; the file is damaged or not a safetensors file.",
         length, header_limit);
  if (length > bytes.size())
    fail(source, "it claims a header of {} bytes, but only {} follow: the file is cut off or not a safetensors file.",
         length, bytes.size());
  const auto header = parse_header(bytes.substr(0, length), source);
  bytes.remove_prefix(length);
  if (!header.is_object()) fail(source, "its header is no JSON object; the file is damaged or not a safetensors file.");

  Tensors out;
  out.source = source;
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name != metadata_key) {
      entries.push_back(read_entry(name, json, source));
      continue;
    }
    if (!json.is_object()) fail(source, "its metadata is no JSON object; the file is damaged.");
    for (const auto& [key, text] : json.items()) {
      if (!text.is_string()) fail(source, "its metadata \"{}\" is no text; the file is damaged.", key);
      out.metadata[key] = text.get<std::string>();
    }
  }
  check_places(entries, bytes.size(), source);
  for (Entry& entry : entries) {
    Tensor& tensor = out.arrays[entry.name];
    tensor.shape = std::move(entry.shape);
    tensor.values = entry.type->read(bytes.substr(entry.begin, entry.end - entry.begin));
  }
  return out;
}

Tensors read_safetensors(const std::string& path) { return parse_safetensors(armagrad::detail::read_file(path), path); }

void write_safetensors(const std::string& path, const Tensors& tensors) {
  // As the format's own library does: wide types first, so that every array is aligned, then by name.
  std::vector<std::pair<const std::string*, const Tensor*>> order;
  for (const auto& [name, tensor] : tensors.arrays) {
    if (name == metadata_key)
      throw ValueError(fmt::format("{}: no array can be called {}, the format's name for its texts.", path, name));
    check_count(tensor, name, path);
    order.emplace_back(&name, &tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    const auto rank = [](const Tensor& t) { return t.values.index(); };  // F32, F64, I64, U64
    return rank(*a.second) > rank(*b.second);
  });

  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!tensors.metadata.empty()) json[std::string(metadata_key)] = tensors.metadata;
  std::uint64_t end = 0;
  for (const auto& [name, tensor] : order) {
    const std::uint64_t begin = std::exchange(end, end + *count(tensor->shape) * type_of(*tensor).bytes);
    auto& entry = json[*name];
    entry["dtype"] = type_of(*tensor).name;
    entry["shape"] = tensor->shape;
    entry["data_offsets"] = {begin, end};
  }
  std::string header;
  try {
    header = json.dump();
  } catch (const nlohmann::json::type_error&) {
    throw ValueError(fmt::format("{}: the names and texts of a safetensors file must be UTF-8.", path));
  }
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > header_limit)
    throw ValueError(
        fmt::format("{}: its header takes {} bytes, and {} are allowed.", path, header.size(), header_limit));
  const std::uint64_t length = header.size();

  try {
    armagrad::detail::StagedFile file(path);
    file.write(&length, sizeof(length));
    file.write(header.data(), header.size());
    for (const auto& entry : order)
      std::visit([&](const auto& values) { file.write(values.data(), values.size() * sizeof(values[0])); },
                 entry.second->values);
    file.publish();
  } catch (const DataError& error) {
    throw DataError(fmt::format("{} Free some space or name another file.", error.what()));
  }
}

}  // namespace armagrad::nn
