// What the files of linear algebra share.
//
// Commands that may fail, or that choose by a value, wait for the device and read a few numbers back (Context::read),
// which counts as a download. A step with such a command is therefore not captured as a graph (Entry::reads_back).
#pragma once

#include <tuple>

#include <armagrad/autodiff/device/linear_algebra.hpp>

#include "maps.cuh"

namespace armagrad::cuda {

template <class T>
View<T> view(T* data, std::size_t rows, std::size_t cols) {
  const auto m = static_cast<std::uint32_t>(rows), n = static_cast<std::uint32_t>(cols);
  return {data, m, n, m};
}
template <class T>
View<T> view(T* data, std::size_t rows) {
  return view(data, rows, 1);
}

template <class T, class eT>
const T& attributes_of(const Command<eT>& c) {
  return *static_cast<const T*>(c.attributes);
}

/// A part of the workspace, of so many T.
template <class T>
struct Piece {
  std::size_t count;
};
/// All that a command needs of the workspace, at once: it may lie elsewhere after it has grown.
template <class... T>
std::tuple<T*...> carve(Context& context, Piece<T>... pieces) {
  const auto rounded = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
  char* at = context.workspace<char>((rounded(pieces.count * sizeof(T)) + ...));
  const auto next = [&at](std::size_t bytes) {
    char* const here = at;
    at += bytes;
    return here;
  };
  return std::tuple<T*...>{reinterpret_cast<T*>(next(rounded(pieces.count * sizeof(T))))...};
}

template <class eT>
void copy_matrix(Context& context, View<const eT> from, View<eT> to, std::type_identity_t<eT> beta = 0) {
  Command<eT> c;
  c.beta = beta;
  c.out = to;
  c.in[0] = from;
  copy(context, c);
}
template <class eT>
void fill_matrix(Context& context, View<eT> to, eT value) {
  Command<eT> c;
  c.out = to;
  c.alpha = value;
  fill(context, c);
}
/// out = alpha op(A) op(B) + beta out; `flags` as in a Command.
template <class eT>
void multiply(Context& context, std::uint32_t flags, View<const eT> a, View<const eT> b, View<eT> out,
              std::type_identity_t<eT> alpha = 1, std::type_identity_t<eT> beta = 0) {
  Command<eT> c;
  c.alpha = alpha;
  c.beta = beta;
  c.out = out;
  c.in[0] = a;
  c.in[1] = b;
  c.flags = flags;
  gemm(context, c);
}

/// What is known of a matrix's elements, in device memory: the 1-norm, 1 for NaN or infinity, 1 for NaN, the largest in
/// size.
template <class eT>
struct Numbers {
  eT norm, not_finite, nan, largest;
};
constexpr std::size_t numbers_of_column = 4;
/// `to` needs four numbers, `columns` four for each column of A. Of a triangle the other one is not read.
template <class eT>
void look_at(Context& context, View<const eT> a, detail::Triangle part, eT* columns, eT* to);

/// Of a square matrix and its symmetric part: the largest in size of (A + A') / 2, 1 for NaN or infinity, the largest
/// difference between A and A'.
template <class eT>
struct Symmetry {
  eT largest, not_finite, apart, unused;
};
/// The same for symmetry; `part` is (A + A') / 2, unless it has no data.
template <class eT>
void look_at_symmetry(Context& context, View<const eT> a, View<eT> part, eT* columns, eT* to);

/// Takes Q's columns from `first` on, and from those of singular values 0 on, out of particular directions
/// (device/linear_algebra.hpp): they are free in what the others leave out.
template <class eT>
void reflect_rest(Context& context, View<eT> q, View<const eT> s, std::size_t first);
/// The same for the vectors of equal values, in order; of singular values also for what `reflect_rest` is about.
template <class eT>
void reflect_equal(Context& context, View<eT> v, View<const eT> w, bool singular);

/// out = A on one side of a diagonal, 0 elsewhere; A may have more rows.
template <class eT>
void copy_triangle(Context& context, bool upper, int diagonal, View<const eT> a, View<eT> out);
template <class eT>
void mirror_triangle(Context& context, bool upper, View<const eT> a, View<eT> out);

}  // namespace armagrad::cuda
