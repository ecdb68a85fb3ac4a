// Dim: a tensor dimension as an integer expression over named symbols.
//
// Expressions are kept as canonical sums of products, so two equal dimensions compare equal and print the same:
// `N*8 + 4`, `floordiv(T, 2)`. The functions floordiv, ceildiv, min and max become atoms when they do not simplify.
// Immutable and cheap to copy; safe to share between threads. Symbols stand for values >= 1.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/status.h"

namespace aoq {

// What each symbol is in one concrete run.
using SymbolValues = std::map<std::string, std::int64_t, std::less<>>;

class Dim {
 public:
  Dim() = default;                               // 0
  Dim(std::int64_t value) : constant_(value) {}  // NOLINT: a number is a dimension
  static Dim symbol(std::string_view name);

  bool is_constant() const { return terms_ == nullptr; }
  // The value of a constant dimension; calling it on another is a bug.
  std::int64_t constant() const;
  bool is_symbol() const;

  // Error when a symbol has no value or the arithmetic overflows or divides by zero.
  Result<std::int64_t> evaluate(const SymbolValues& values) const;
  // Replaces the symbols that have values; the others stay.
  Dim substitute(const SymbolValues& values) const;
  void collect_symbols(std::vector<std::string>& names) const;
  // The least value over all symbols >= 1, as far as simple interval arithmetic can tell; empty when it cannot.
  std::optional<std::int64_t> lower_bound() const;

  std::string to_string() const;
  // Reads what to_string writes. Nesting is limited to 64.
  static Result<Dim> parse(std::string_view text);

  friend bool operator==(const Dim& a, const Dim& b);
  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, const Dim& b);

 private:
  struct Atom;  // a symbol, or a function of two dimensions
  struct Term;  // coefficient times a product of atoms
  friend Dim floor_div(const Dim& a, const Dim& b);
  friend Dim function_of(int kind, const Dim& a, const Dim& b);
  static Dim from_terms(std::vector<Term> terms);
  static std::optional<std::int64_t> atom_lower_bound(const Atom& atom);
  std::vector<Term> terms() const;

  std::int64_t constant_ = 0;
  // Shared by the copies of this expression; immutable.
  std::shared_ptr<const std::vector<Term>> terms_;
};

// Rounds towards minus infinity / plus infinity. Exact quotients of polynomials simplify.
Dim floor_div(const Dim& a, const Dim& b);
Dim ceil_div(const Dim& a, const Dim& b);
Dim min(const Dim& a, const Dim& b);
Dim max(const Dim& a, const Dim& b);

// "[N, 3, 224, 224]"
std::string to_string(std::span<const Dim> dims);
// The product of the dimensions; 1 for none.
Dim product(std::span<const Dim> dims);
bool all_constant(std::span<const Dim> dims);
Result<std::vector<std::int64_t>> evaluate(std::span<const Dim> dims, const SymbolValues& values);

}  // namespace aoq
