#include "base/delayed_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <span>

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names for the section that they are in.
// There is none in a program that needs no such library.
[[gnu::weak, gnu::visibility("hidden")]] extern limen::DelayedLibrary __start_limen_delayed[];
[[gnu::weak, gnu::visibility("hidden")]] extern limen::DelayedLibrary __stop_limen_delayed[];
// NOLINTEND(bugprone-reserved-identifier)
}

namespace limen {

Result<> load_library(const std::string& file) {
  // Never unloaded: what it was asked for stays in use.
  if (::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL) == nullptr)
    return fail("cannot load a library: {}",
                ::dlerror());  // NOLINT(concurrency-mt-unsafe): is safe
  return {};
}

void load_delayed_libraries() {
  for (const auto& library : std::span(__start_limen_delayed, __stop_limen_delayed))
    [[maybe_unused]] const auto loaded = load_library(library.file);
}

}  // namespace limen

extern "C" void* limen_find_function(limen::DelayedFunction* function) {
  const std::atomic_ref handle(function->library->handle);
  // Two threads at once get the same one.
  if (handle.load() == nullptr)
    handle.store(::dlopen(function->library->file, RTLD_LAZY | RTLD_LOCAL));
  void* const library = handle.load();
  void* const found = library != nullptr ? ::dlsym(library, function->name) : nullptr;
  if (found == nullptr) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): its own for each thread
    std::fprintf(stderr, "limen: error: cannot load a library: %s\n", ::dlerror());
    // Not exit(), which destroys what other threads still use.
    ::_exit(1);
  }
  std::atomic_ref(function->address).store(found);
  return found;
}

// What a function's stand-in jumps to at first, with the DelayedFunction in R11: finds the function
// and goes there with all that a caller may have put into registers (System V ABI, 3.2.3).
asm(R"(
  .text
  .hidden limen_first_call
  .globl limen_first_call
  .type limen_first_call, @function
limen_first_call:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  mov %rsp, %rbp
  .cfi_def_cfa_register %rbp
  push %rdi
  push %rsi
  push %rdx
  push %rcx
  push %r8
  push %r9
  push %rax
  push %r10
  sub $128, %rsp
  movups %xmm0, (%rsp)
  movups %xmm1, 16(%rsp)
  movups %xmm2, 32(%rsp)
  movups %xmm3, 48(%rsp)
  movups %xmm4, 64(%rsp)
  movups %xmm5, 80(%rsp)
  movups %xmm6, 96(%rsp)
  movups %xmm7, 112(%rsp)
  mov %r11, %rdi
  call limen_find_function
  mov %rax, %r11
  movups (%rsp), %xmm0
  movups 16(%rsp), %xmm1
  movups 32(%rsp), %xmm2
  movups 48(%rsp), %xmm3
  movups 64(%rsp), %xmm4
  movups 80(%rsp), %xmm5
  movups 96(%rsp), %xmm6
  movups 112(%rsp), %xmm7
  add $128, %rsp
  pop %r10
  pop %rax
  pop %r9
  pop %r8
  pop %rcx
  pop %rdx
  pop %rsi
  pop %rdi
  pop %rbp
  .cfi_def_cfa %rsp, 8
  jmp *%r11
  .cfi_endproc
  .size limen_first_call, . - limen_first_call
)");
