; Indirect jumps with flags that their target needs, where the jump table leads to a block of another
; page first (the low 16 bits of both addresses are the same) that needs none.
%include "common.inc"
%include "kernel.inc"
%define LOSES 0x40120
%define NEEDS 0x50120
%define CANARY 0x1122334455667788
  enter_kernel
  mov rdi, LOSES
  mov rsi, loses
  mov ecx, 64
  rep movsb
  mov rdi, NEEDS
  mov rsi, needs
  mov ecx, 64
  rep movsb
  mov r13d, 4
again:
  mov rcx, CANARY
  mov rax, LOSES
  lea r14, [rel .jump]
  jmp rax                      ; from here on the table knows LOSES
.jump:
  mov al, 0x7F
  add al, 1                    ; OF SF AF
  stc
  mov rax, NEEDS
  lea r14, [rel .return]
  jmp rax
.return:
  mov rax, LOSES
  lea r14, [rel .returning]
  jmp rax
.returning:
  mov rax, NEEDS
  push rax
  lea r14, [rel .interrupt_return]
  xor eax, eax                 ; ZF PF
  stc
  ret
.interrupt_return:
  mov rax, LOSES
  lea r14, [rel .returning_further]
  jmp rax
.returning_further:
  mov r15, rsp
  push 0
  push r15
  push 0x895                   ; OF SF AF PF CF
  push CODE64
  push NEEDS
  lea r14, [rel .next]
  xor eax, eax
  iretq
.next:
  note rcx
  dec r13d
  jnz again
  finish

loses:
  xor eax, eax
  jmp r14
align 64
needs:
  pushfq
  setc bl
  pop rbp
  note rbp
  note rcx
  jmp r14
align 64

handlers
system_call:
  data_tables
