; Flat 64-bit code at 1000H, entered with paging on: a checksum over memory that it keeps changing, with
; a port written every 256 rounds; the result goes to port 90H as two doublewords.
bits 64
org 0x1000
    mov rax, 0x0123456789ABCDEF
    mov rbx, 0x20000            ; its memory: 8 KiB
    mov rcx, 20000
    xor rdx, rdx
    xor r8, r8
.round:
    mov rsi, rax
    and rsi, 0x1FF8
    add rax, [rbx + rsi]
    rol rax, 7
    xor rax, rcx
    mov [rbx + rsi], rax
    adc r8, rax
    test cl, cl
    jnz .next
    out 0x80, al
.next:
    dec rcx
    jnz .round
    add rax, r8
    out 0x90, eax
    shr rax, 32
    out 0x90, eax
    hlt
