// Figures of merit and error measures, summed over batches.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/tensor.h"

namespace aoq::tools {

// Of a perfect match, and of a reference without a signal: JSON has no infinity.
inline constexpr double kMaxDecibels = 999.0;

// How far y is from the reference x.
class ErrorSum {
 public:
  // invalid_data when the shapes differ.
  Status add(const TensorView& x, const TensorView& y);
  void add(std::span<const float> x, std::span<const float> y);

  double sqnr_db() const;  // 20 log10(|x| / |x - y|)
  double cosine() const;
  double max_abs() const { return max_abs_; }
  double mean_abs() const;
  // Share of the rows along the last axis whose argmax is equal; empty where there is no such axis beside the samples.
  std::optional<double> agreement() const;
  // Elements where only one side is finite, or both are infinite or NaN but differ. They count as no number elsewhere.
  std::int64_t nonfinite_mismatches() const { return mismatches_; }

 private:
  void add_element(double x, double y);

  double signal_ = 0, noise_ = 0, other_ = 0, product_ = 0, sum_abs_ = 0, max_abs_ = 0;
  std::int64_t count_ = 0, mismatches_ = 0;
  std::int64_t rows_ = 0, equal_rows_ = 0;
};

// The element with the largest value, the first of equals; -1 for a row with NaN or without elements.
std::int64_t argmax(const TensorView& t, std::int64_t begin, std::int64_t size);

std::vector<std::string> metric_names();

// top1, top5 and agreement of outputs against labels.
class Metric {
 public:
  // Labels: integers, one per row along the last axis of the output; for `agreement` also the other model's outputs,
  // whose argmax is taken. `total_samples` is the number of samples that the labels belong to.
  static Result<Metric> make(const std::string& name, const Tensor& labels, std::int64_t total_samples);
  Status add(const TensorView& output, std::int64_t samples);
  double value() const { return rows_ > 0 ? static_cast<double>(hits_) / static_cast<double>(rows_) : 0; }

 private:
  std::string name_;
  std::vector<std::int64_t> labels_;
  std::int64_t total_samples_ = 0;
  std::size_t next_ = 0;
  std::int64_t rows_ = 0, hits_ = 0;
};

}  // namespace aoq::tools
