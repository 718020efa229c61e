// Files from the network, checked. Internal to datasets/.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace armagrad::data::detail {

/// The SHA-256 of bytes in hexadecimal; empty when the library was built without OpenSSL.
std::string sha256(std::string_view bytes);

/// Why nothing can be downloaded by this build; empty when it can.
std::string no_download();

struct Download {
  std::string path;                                            // where the file goes; its folder exists
  std::vector<std::string> urls;                               // tried in this order
  std::function<std::string(const std::string& bytes)> check;  // what is wrong with the content; empty: nothing
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

/// Gets the file from the first address that gives what `check` accepts. Bytes are kept in PATH.part, from where a
/// later call goes on; PATH is whole and checked, or not there. Two programs that want the same file take turns.
/// @returns why each address failed, "HOST: REASON" separated by "; "; empty when the file is there
/// @throws DataError when it cannot be written.
std::string download(const Download& what);

}  // namespace armagrad::data::detail
