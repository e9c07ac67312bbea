; SYSCALL under single step: IA32_FMASK clears TF, so that no trap is taken in ring 0.
%include "common.inc"
  to_protected
  to_long
  mov qword [TSS64 + 4], STACK0
  mov ax, TASK64
  ltr ax
  set_gate64 1, debug, 0x8E
  set_gate64 0x30, interrupt, 0xEE
  mov ecx, 0xC0000081
  xor eax, eax
  mov edx, (0x20 << 16) | CODE64
  wrmsr
  mov ecx, 0xC0000082
  mov eax, entry
  xor edx, edx
  wrmsr
  mov ecx, 0xC0000084
  mov eax, 0x100
  wrmsr
  mov rcx, user
  mov r11, 0x2
  mov rsp, STACK3
  o64 sysret
user:
  pushfq
  or qword [rsp], 0x100
  popfq
  syscall
back:
  nop
after_nop:
  int 0x30
after_int:
  hlt
entry:
  mov rax, rcx
  sub rax, back
  result 0, rax
  pushfq
  pop rax
  result 1, rax
  o64 sysret                     ; TF comes back with R11
interrupt:
  pushfq
  pop rax
  result 2, rax
  mov eax, back
  result 8, rax
  mov eax, after_nop
  result 9, rax
  finish
debug:
  push rax
  push rcx
  mov ecx, [count]
  mov rax, [rsp + 16]
  mov [RESULTS + 24 + 8 * rcx], rax
  inc dword [count]
  mov rax, [rsp + 24]
  mov [RESULTS + 48], rax        ; CS
  pop rcx
  pop rax
  iretq
count: dd 0
  data_tables
