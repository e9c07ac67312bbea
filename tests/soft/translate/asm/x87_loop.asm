; x87 instructions a thousand times, with a system call and a page fault in each round.
%include "common.inc"
%include "kernel.inc"
  enter_kernel
  set_gate64 14, fault, 0x8E
  lea rbx, [rel number]
  mov r13d, 1000
  fninit
  fldz
  to_user user
user:
  fld tword [rbx]
  mov rax, [PAGES + 0x2000]    ; a page fault
  faddp
  syscall
  jmp user

fault:
  map 2, 0x202007
  lea rsp, [rsp + 8]
  iretq

system_call:
  map 2, 0
  mov eax, PAGES + 0x2000
  invlpg [rax]
  dec r13d
  jz .last
  o64 sysret
.last:
  fistp qword [RESULTS]
  finish
handlers
  align 16
number:
  dt 3.0
  data_tables
