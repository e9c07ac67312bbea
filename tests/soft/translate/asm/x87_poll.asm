; Loops that look for interrupts between two x87 instructions: where flags are dead, and where the
; stack's page is looked for.
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
  fldz
  mov r13d, 1000000
deeper:
  fld1
  mov [rsp - 64], r13
  mov [rsp - 72], r13
  faddp
  sub r13, 1
  jnz deeper
  fistp qword [RESULTS + 8]
  finish
system_call:
handlers
  align 16
number:
  dt 3.0
  data_tables
