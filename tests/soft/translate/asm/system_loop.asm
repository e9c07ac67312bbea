; The ways of a kernel, a thousand times: a system call, a page fault and its return, a change of
; address space, a page that is mapped anew, and whatever goes with them.
%include "common.inc"
%include "kernel.inc"
  enter_kernel
  set_gate64 14, fault, 0x8E
  map 0, 0x200007
  map 1, 0x201007
  mov qword [RESULTS], 0
  mov qword [RESULTS + 8], 0
  mov rax, cr3
  mov cr3, rax
  mov r13d, 1000
  to_user user
user:
  mov rcx, PAGES + 0x2000
  mov rax, [rcx]               ; a page fault
  syscall
  dec r13d
  jmp user

fault:
  swapgs
  cld
  push rax
  mov rax, cr2
  map 2, 0x202007
  inc qword [RESULTS]
  pop rax
  lea rsp, [rsp + 8]
  swapgs
  iretq

system_call:
  swapgs
  mov [PAGES], rsp
  mov rsp, STACK0
  push r11
  push rcx
  inc qword [RESULTS + 8]
  cmp r13d, 1
  je .last
  map 2, 0
  mov eax, PAGES + 0x2000
  invlpg [rax]
  mov rax, cr3
  mov cr3, rax
  mov ax, ds
  mov bx, fs
  rdfsbase rax
  wrfsbase rax
  mov esi, PAGES
  mov edi, PAGES + 0x100
  movsq
  std
  cld
  pushfq
  popfq
  pop rcx
  pop r11
  mov rax, [PAGES]
  push rax
  pop rsp
  swapgs
  o64 sysret
.last:
  finish
handlers
  data_tables
