; Two functions that have the same slot of the jump table, called in turn a thousand times.
%include "common.inc"
%include "kernel.inc"
%define ONE 0x40120
%define OTHER 0x50120
  enter_kernel
  mov rdi, ONE
  mov rsi, one
  mov ecx, 64
  rep movsb
  mov rdi, OTHER
  mov rsi, other
  mov ecx, 64
  rep movsb
  xor r8d, r8d
  xor r9d, r9d
  mov r13d, 1000
again:
  mov rax, ONE
  call rax
  mov rax, OTHER
  call rax
  dec r13d
  jnz again
  mov [RESULTS], r8
  mov [RESULTS + 8], r9
  finish

one:
  add r8, 1
  ret
align 64
other:
  add r9, 2
  ret
align 64

handlers
system_call:
  data_tables
