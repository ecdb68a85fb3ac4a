#include "tools/metrics.h"

#include <algorithm>
#include <cmath>

#include "ir/error_id.h"

namespace aoq::tools {

namespace {

std::int64_t row_size(const TensorView& t) {
  return t.shape.empty() ? 0 : t.shape.back();
}

// Whether `label` is among the `k` largest elements of the row; equals rank in order.
bool is_among_largest(const TensorView& t, std::int64_t begin, std::int64_t size, std::int64_t label, std::int64_t k) {
  double own = load_as_double(t.dtype, t.data, begin + label);
  if (std::isnan(own)) return false;
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    double v = load_as_double(t.dtype, t.data, begin + i);
    if (v > own || (v == own && i < label)) ++before;
  }
  return before < k;
}

}  // namespace

std::int64_t argmax(const TensorView& t, std::int64_t begin, std::int64_t size) {
  std::int64_t best = -1;
  double best_value = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    double v = load_as_double(t.dtype, t.data, begin + i);
    if (std::isnan(v)) return -1;
    if (best < 0 || v > best_value) {
      best = i;
      best_value = v;
    }
  }
  return best;
}

void ErrorSum::add_element(double x, double y) {
  ++count_;
  if (!std::isfinite(x) || !std::isfinite(y)) {
    bool same = x == y || (std::isnan(x) && std::isnan(y));
    if (!same) ++mismatches_;
    return;
  }
  double d = std::abs(x - y);
  signal_ += x * x;
  other_ += y * y;
  product_ += x * y;
  noise_ += d * d;
  sum_abs_ += d;
  max_abs_ = std::max(max_abs_, d);
}

void ErrorSum::add(std::span<const float> x, std::span<const float> y) {
  for (std::size_t i = 0; i < x.size(); ++i) add_element(static_cast<double>(x[i]), static_cast<double>(y[i]));
}

Status ErrorSum::add(const TensorView& x, const TensorView& y) {
  if (!std::equal(x.shape.begin(), x.shape.end(), y.shape.begin(), y.shape.end())) {
    return error(Code::invalid_data, "the shapes differ: {} and {}", shape_to_string(x.shape),
                 shape_to_string(y.shape));
  }
  std::int64_t n = x.element_count();
  for (std::int64_t i = 0; i < n; ++i)
    add_element(load_as_double(x.dtype, x.data, i), load_as_double(y.dtype, y.data, i));
  std::int64_t size = row_size(x);
  if (x.shape.size() < 2 || size < 1) return {};
  for (std::int64_t begin = 0; begin < n; begin += size) {
    ++rows_;
    std::int64_t best = argmax(x, begin, size);
    if (best == argmax(y, begin, size)) ++equal_rows_;
  }
  return {};
}

double ErrorSum::sqnr_db() const {
  if (mismatches_ > 0) return -kMaxDecibels;
  if (noise_ == 0) return kMaxDecibels;
  if (signal_ == 0) return -kMaxDecibels;
  return std::clamp(10 * std::log10(signal_ / noise_), -kMaxDecibels, kMaxDecibels);
}

double ErrorSum::cosine() const {
  if (signal_ == 0 && other_ == 0) return 1;
  if (signal_ == 0 || other_ == 0) return 0;
  return std::clamp(product_ / (std::sqrt(signal_) * std::sqrt(other_)), -1.0, 1.0);
}

double ErrorSum::mean_abs() const {
  return count_ > 0 ? sum_abs_ / static_cast<double>(count_) : 0;
}

std::optional<double> ErrorSum::agreement() const {
  if (rows_ == 0) return std::nullopt;
  return static_cast<double>(equal_rows_) / static_cast<double>(rows_);
}

std::vector<std::string> metric_names() {
  return {"top1", "top5", "agreement"};
}

Result<Metric> Metric::make(const std::string& name, const Tensor& labels, std::int64_t total_samples) {
  Metric metric;
  metric.name_ = name;
  metric.total_samples_ = total_samples;
  TensorView view = labels.view();
  if (is_integer(labels.dtype())) {
    for (std::int64_t i = 0; i < labels.element_count(); ++i) {
      metric.labels_.push_back(load_integer(labels.dtype(), view.data, i));
    }
  } else if (name == "agreement" && is_float(labels.dtype()) && labels.shape().size() >= 2 && row_size(view) > 0) {
    for (std::int64_t i = 0; i < labels.element_count(); i += row_size(view)) {
      metric.labels_.push_back(argmax(view, i, row_size(view)));
    }
  } else {
    return error(ErrorId::labels_mismatch, "labels: found {}{}, expected integers, one per sample",
                 dtype_name(labels.dtype()), shape_to_string(labels.shape()));
  }
  auto count = static_cast<std::int64_t>(metric.labels_.size());
  if (count == 0 || count % total_samples != 0) {
    return error(ErrorId::labels_mismatch, "labels: found {}, expected one for each of the {} samples", count,
                 total_samples);
  }
  return metric;
}

Status Metric::add(const TensorView& output, std::int64_t samples) {
  std::int64_t size = row_size(output);
  if (output.shape.size() < 2 || size < 1) {
    return error(Code::invalid_data, "the first output is {}, expected classes along a last axis behind the samples",
                 shape_to_string(output.shape));
  }
  std::int64_t rows = output.element_count() / size;
  std::int64_t per_sample = static_cast<std::int64_t>(labels_.size()) / total_samples_;
  if (rows != per_sample * samples) {
    return error(ErrorId::labels_mismatch,
                 "labels: found {} for each sample, expected {}: the first output is {} for {} samples", per_sample,
                 rows / std::max<std::int64_t>(samples, 1), shape_to_string(output.shape), samples);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t label = labels_[next_++];
    if (label >= size || (label < 0 && name_ != "agreement")) {
      return error(ErrorId::labels_mismatch,
                   "labels: element {} is {}, expected 0 to {}: the first output has {} classes", next_ - 1, label,
                   size - 1, size);
    }
    ++rows_;
    bool hit = name_ == "top5" ? is_among_largest(output, r * size, size, label, 5)
                               : label >= 0 && argmax(output, r * size, size) == label;
    if (hit) ++hits_;
  }
  return {};
}

}  // namespace aoq::tools
