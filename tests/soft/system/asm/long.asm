; 64-bit mode: SYSCALL, SYSRET, SWAPGS, IST, page faults, a double fault on its own stack, IRETQ.
%include "common.inc"
%define IST1 0xC000
%define IST2 0xD000
  to_protected
  to_long
  mov qword [TSS64 + 4], STACK0
  mov qword [TSS64 + 36], IST1
  mov qword [TSS64 + 44], IST2 - 8     ; gets aligned
  mov ax, TASK64
  ltr ax
  set_gate64 14, page_fault, 0x8E, 1
  set_gate64 8, double_fault, 0x8E, 2
  set_gate64 13, general_protection, 0x8E
  set_gate64 0x30, from_user, 0xEE
  ; SYSCALL
  mov ecx, 0xC0000081
  xor eax, eax
  mov edx, (0x20 << 16) | CODE64
  wrmsr
  mov ecx, 0xC0000082
  mov eax, syscall_entry
  xor edx, edx
  wrmsr
  mov ecx, 0xC0000084
  mov eax, 0x200
  wrmsr
  mov ecx, 0xC0000102                  ; KERNEL_GS_BASE
  mov eax, 0x12340000
  mov edx, 0
  wrmsr
  mov rcx, user
  mov r11, 0x202
  mov r12, rsp
  mov rsp, STACK3
  o64 sysret
user:
  mov rax, cs
  result 0, rax
  mov rax, ss
  result 1, rax
  syscall
user_after:
  pushfq
  pop rax
  result 5, rax
  int 0x30
  mov rbx, 0x400000                    ; not mapped
user_fault:
  mov [rbx + 0x10], eax
after_user_fault:
  ; a return to a non-canonical address
  finish
syscall_entry:
  sub rcx, user
  result 2, rcx
  result 3, r11
  pushfq
  pop rax
  result 4, rax
  swapgs
  mov ecx, 0xC0000101
  rdmsr
  result 6, rax
  swapgs
  mov rcx, user_after
  o64 sysret
from_user:
  mov rax, ss
  result 7, rax                        ; null
  result 8, rsp
  mov rax, [rsp + 24]
  result 9, rax
  mov rax, [rsp + 32]
  result 10, rax
  iretq
page_fault:
  cmp dword [fault_count], 0
  jne .second
  inc dword [fault_count]
  result 11, rsp
  pop rax
  result 12, rax                       ; error code
  mov rax, cr2
  result 13, rax
  mov rax, [rsp]
  sub rax, user_fault
  result 14, rax
  mov rax, [rsp + 16]
  result 15, rax                       ; RF
  ; the page-fault stack goes: the next fault cannot be delivered
  mov qword [TSS64 + 36], 0x500000
  mov rax, [0x600000]
.second:
  ud2
double_fault:
  result 16, rsp
  pop rax
  result 17, rax
  mov rax, cr2
  result 18, rax
  mov rax, cs
  result 19, rax
  ; IRETQ to ring 3 with a bad SS: #GP with its selector, on the same stack
  push qword 0x60 | 3                  ; not a descriptor
  push qword STACK3
  push qword 0x202
  push qword USER_CODE64
  push qword user
  iretq
general_protection:
  pop rax
  result 20, rax
  ; and no stack at all: a triple fault
  mov qword [TSS64 + 44], 0x500000
  mov rax, [0x600000]
  hlt
fault_count: dd 0
  data_tables
