#include "tools/machine.h"

#include "backends/cpu/backend.h"
#include "backends/cpu/cpu_features.h"
#include "runtime/cpu_count.h"

namespace aoq::tools {

namespace {

constexpr cpu::Isa kClasses[] = {cpu::Isa::reference, cpu::Isa::avx2, cpu::Isa::avx_vnni, cpu::Isa::avx512_vnni};

}  // namespace

MachineInfo machine_info() {
  const cpu::CpuFeatures& f = cpu::cpu_features();
  const std::pair<const char*, bool> named[] = {{"avx2", f.avx2},
                                                {"fma", f.fma},
                                                {"f16c", f.f16c},
                                                {"avx_vnni", f.avx_vnni},
                                                {"avx512f", f.avx512f},
                                                {"avx512bw", f.avx512bw},
                                                {"avx512vl", f.avx512vl},
                                                {"avx512_vnni", f.avx512_vnni},
                                                {"avx512_vbmi", f.avx512_vbmi}};
  MachineInfo info;
  info.isa = cpu::isa_name(cpu::best_isa());
  for (const auto& [name, has] : named) {
    if (has) info.features.emplace_back(name);
  }
  info.threads = available_cpus();
  return info;
}

std::string onednn() {
  return onednn_version();
}

std::vector<std::string> kernel_rows_of(Op op) {
  std::vector<std::string> names;
  for (const cpu::KernelRow& row : cpu::kernel_rows()) {
    if (row.op == op && row.isa <= cpu::best_isa()) names.emplace_back(row.name);
  }
  return names;
}

std::vector<std::string> cpu_classes() {
  std::vector<std::string> names{"portable", "native"};
  for (cpu::Isa isa : kClasses) names.emplace_back(cpu::isa_name(isa));
  return names;
}

Result<std::shared_ptr<const Backend>> make_backend(const std::string& cpu_class) {
  if (cpu_class == "native") return std::shared_ptr<const Backend>(std::make_shared<CpuBackend>());
  for (cpu::Isa isa : kClasses) {
    if (cpu_class != cpu::isa_name(isa)) continue;
    if (isa > cpu::best_isa()) {
      return error(Code::unsupported, "this machine has no {}; its class is {}", cpu_class,
                   cpu::isa_name(cpu::best_isa()));
    }
    return std::shared_ptr<const Backend>(std::make_shared<CpuBackend>(isa));
  }
  return error(Code::invalid_argument, "no class of processors is called {}", cpu_class);
}

std::unique_ptr<TargetInfo> make_target() {
  return std::make_unique<CpuTarget>();
}

ModelOptions model_options(const RunSettings& settings) {
  ModelOptions options;
  options.backends.push_back(std::make_shared<CpuBackend>());
  if (settings.threads > 0) {
    options.pool = std::make_shared<ThreadPool>(settings.threads);
  } else {
    options.pool = ThreadPool::process_default();
  }
  options.deterministic = settings.deterministic;
  options.batch_loops = settings.batch_loops;
  return options;
}

}  // namespace aoq::tools
