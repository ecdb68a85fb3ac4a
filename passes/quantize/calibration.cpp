#include "passes/quantize/calibration.h"

#include "formats/json/json.h"
#include "ir/type.h"

namespace aoq {

namespace {

Json means_to_json(const ChannelMean& mean) {
  Json sums = Json::array();
  for (double s : mean.sum) sums.push_back(hex_float(s));
  return Json{{"count", mean.count}, {"sum", std::move(sums)}};
}

Result<ChannelMean> means_from_json(const Json& json) {
  ChannelMean mean;
  AOQ_ASSIGN(mean.count, json_integer(json, "count"));
  const Json* sums = json_find(json, "sum");
  if (sums == nullptr || !sums->is_array()) return error(Code::invalid_data, "\"sum\" is no list");
  for (const Json& s : *sums) {
    if (!s.is_string()) return error(Code::invalid_data, "an entry of \"sum\" is no hexadecimal float");
    AOQ_ASSIGN(double v, parse_hex_float(s.get<std::string>()));
    mean.sum.push_back(v);
  }
  return mean;
}

}  // namespace

std::string Ranges::to_json() const {
  Json json{{"format", "aoq-ranges"}, {"version", 1}, {"samples", samples}};
  json["observers"] = Json::object();
  json["channel_means"] = Json::object();
  for (const auto& [name, observer] : observers) json["observers"][name] = observer_to_json(*observer);
  for (const auto& [name, mean] : channel_means) json["channel_means"][name] = means_to_json(mean);
  return dump_json_indented(json);
}

Result<Ranges> Ranges::from_json(std::string_view text) {
  AOQ_ASSIGN(Json json, parse_json(text));
  AOQ_ASSIGN(std::string format, json_string(json, "format"));
  if (format != "aoq-ranges") return error(Code::invalid_data, "format is \"{}\", expected \"aoq-ranges\"", format);
  Ranges ranges;
  AOQ_ASSIGN(ranges.samples, json_integer(json, "samples"));
  const Json* observers = json_find(json, "observers");
  if (observers == nullptr || !observers->is_object()) return error(Code::invalid_data, "\"observers\" is no object");
  for (const auto& [name, entry] : observers->items()) {
    Result<std::unique_ptr<Observer>> observer = observer_from_json(entry);
    if (!observer.ok()) return std::move(observer).status().with_context(name);
    ranges.observers[name] = std::move(*observer);
  }
  if (const Json* means = json_find(json, "channel_means"); means != nullptr && means->is_object()) {
    for (const auto& [name, entry] : means->items()) {
      AOQ_ASSIGN(ranges.channel_means[name], means_from_json(entry));
    }
  }
  return ranges;
}

Status Ranges::merge(const Ranges& other) {
  for (const auto& [name, observer] : other.observers) {
    auto it = observers.find(name);
    if (it == observers.end()) {
      return error(Code::invalid_data, "\"{}\" is in one ranges file only: they belong to different models or recipes", name);
    }
    Status merged = it->second->merge(*observer);
    if (!merged.ok()) return std::move(merged).with_context(name);
  }
  for (const auto& [name, mean] : other.channel_means) {
    ChannelMean& mine = channel_means[name];
    mine.sum.resize(std::max(mine.sum.size(), mean.sum.size()));
    for (std::size_t i = 0; i < mean.sum.size(); ++i) mine.sum[i] += mean.sum[i];
    mine.count += mean.count;
  }
  samples += other.samples;
  return {};
}

}  // namespace aoq
