#include "conformance/native_entry.h"

#include <cstddef>

using limen::conformance::TrapContext;

TrapContext limen_conformance_context;

static_assert(offsetof(TrapContext, fs_base) == 8 && offsetof(TrapContext, gs_base) == 16 &&
              offsetof(TrapContext, flags) == 24 && offsetof(TrapContext, ds) == 32 &&
              offsetof(TrapContext, gs) == 38);

// The kernel clears TF, DF and RF of a handler's flags but neither AC nor NT, and it leaves DS, ES,
// FS, GS and the bases alone: all of them are the trial's on entry. The way out makes the
// rt_sigreturn call itself, because nothing may touch FS after the trial's base is loaded.
asm(R"(
  .pushsection .text
  .globl limen_conformance_entry
  .hidden limen_conformance_entry
  .type limen_conformance_entry, @function
limen_conformance_entry:
  pushq $2
  popfq
  leaq limen_conformance_context(%rip), %rbx
  movl %ds, %eax
  movw %ax, 32(%rbx)
  movl %es, %eax
  movw %ax, 34(%rbx)
  movl %fs, %eax
  movw %ax, 36(%rbx)
  movl %gs, %eax
  movw %ax, 38(%rbx)
  rdfsbase %rax
  movq %rax, 8(%rbx)
  rdgsbase %rax
  movq %rax, 16(%rbx)
  xorl %eax, %eax
  movl %eax, %fs
  movl %eax, %gs
  movl $0x2b, %eax
  movl %eax, %ds
  movl %eax, %es
  movq (%rbx), %rax
  wrfsbase %rax
  movq %rdx, %rdi
  subq $8, %rsp
  call limen_conformance_handle
  addq $8, %rsp
  movzwl 32(%rbx), %eax
  movl %eax, %ds
  movzwl 34(%rbx), %eax
  movl %eax, %es
  movzwl 36(%rbx), %eax
  movl %eax, %fs
  movzwl 38(%rbx), %eax
  movl %eax, %gs
  movq 8(%rbx), %rax
  wrfsbase %rax
  movq 16(%rbx), %rax
  wrgsbase %rax
  pushq 24(%rbx)
  popfq
  addq $8, %rsp
  movl $15, %eax
  syscall
  ud2
  .size limen_conformance_entry, . - limen_conformance_entry
  .popsection
)");
