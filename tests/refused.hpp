// How tests assert that bad input is refused, and in which words.
#pragma once

#include <string>

#include <boost/test/unit_test.hpp>

/// Runs `f`, which must throw an E with exactly this message.
template <class E, class F>
void refused(F f, const std::string& message) {
  try {
    f();
    BOOST_ERROR("nothing was thrown; expected: " << message);
  } catch (const E& e) {
    BOOST_TEST(e.what() == message);
  }
}
