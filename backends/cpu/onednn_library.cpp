#include "backends/cpu/onednn_library.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#if defined(AOQ_ONEDNN_LAZY)
#include <dlfcn.h>

// One definition per function of libdnnl: a jump through a pointer, which load_onednn() sets.
#define AOQ_ONEDNN_FUNCTION(name)                                                                  \
  extern "C" __attribute__((visibility("hidden"))) void* aoq_##name;                               \
  void* aoq_##name = nullptr;                                                                      \
  asm(".text\n.p2align 4\n.globl " #name "\n.hidden " #name "\n.type " #name ", @function\n" #name \
      ":\n  jmp *aoq_" #name "(%rip)\n.size " #name ", .-" #name "\n");
#include "backends/cpu/onednn_functions.def"
#undef AOQ_ONEDNN_FUNCTION
#endif

namespace aoq::cpu {
namespace {

#if defined(AOQ_ONEDNN_LAZY)
struct Function {
  const char* name;
  void** pointer;
};
constexpr Function kFunctions[] = {
#define AOQ_ONEDNN_FUNCTION(name) {#name, &aoq_##name},
#include "backends/cpu/onednn_functions.def"
#undef AOQ_ONEDNN_FUNCTION
};

// The library stays loaded: primitives live as long as any model.
Status open_library() {
  void* library = dlopen("libdnnl.so.3", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return error(Code::unsupported, "oneDNN cannot be loaded: {}", dlerror());
  for (const Function& f : kFunctions) {
    *f.pointer = dlsym(library, f.name);
    if (*f.pointer == nullptr) return error(Code::unsupported, "oneDNN's libdnnl.so.3 has no {}", f.name);
  }
  return {};
}
#else
Status open_library() {
  return {};
}
#endif

Status open_and_check() {
  AOQ_TRY(open_library());
  const dnnl_version_t* v = dnnl_version();
  if (v->major == 3 && v->minor >= 2) return {};
  return error(Code::unsupported, "oneDNN {}.{} is loaded, 3.2 or newer of version 3 is needed", v->major, v->minor);
}

}  // namespace

Status load_onednn() {
  static const Status loaded = open_and_check();
  return loaded;
}

std::string onednn_version() {
  Status loaded = load_onednn();
  if (!loaded.ok()) return loaded.message();
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
}

}  // namespace aoq::cpu
