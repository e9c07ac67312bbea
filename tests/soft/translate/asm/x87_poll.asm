; A loop that looks for interrupts between two x87 instructions: only there flags are dead.
%include "common.inc"
%include "kernel.inc"
  enter_kernel
  lea rbx, [rel number]
  mov r13d, 3000000
  fninit
  fldz
  xor eax, eax
again:
  fld tword [rbx]
  adc rax, 0
  faddp
  sub r13, 1
  jnz again
  fistp qword [RESULTS]
  finish
system_call:
handlers
  align 16
number:
  dt 3.0
  data_tables
