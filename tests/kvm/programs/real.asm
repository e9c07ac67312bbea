; 16-bit real mode at 0:1000H: ports in both directions, single and in strings, an interrupt that ends
; HLT, memory behind which a device stands, and the sum of what was read as the last thing written.
bits 16
org 0x1000
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x1000
    cld

    mov dx, 0x80                ; 1: a byte, a word, a doubleword
    mov al, 0x11
    out dx, al
    mov ax, 0x2222
    out dx, ax
    mov eax, 0x33333333
    out dx, eax

    mov dx, 0x84                ; 2: what is read comes back
    in al, dx
    mov dx, 0x80
    out dx, al

    mov si, text                ; 3: a string
    mov cx, 5
    mov dx, 0x88
    rep outsb
    mov di, 0x3000
    mov cx, 4
    mov dx, 0x84
    rep insb
    mov eax, [0x3000]
    mov dx, 0x80
    out dx, eax

    mov word [0x20 * 4], handler    ; 4: an interrupt
    mov word [0x20 * 4 + 2], 0
    mov al, 0xA5
    out 0x8C, al                ; asks for it
    sti
    hlt
    cli
    mov al, [count]
    out dx, al

    mov ax, 0xA000              ; 5: memory of a device
    mov fs, ax
    mov byte [fs:0x10], 0x5A
    mov dword [fs:0x20], 0x12345678
    mov ax, [fs:0x30]
    out dx, ax

    mov al, 0xED                ; done
    out 0x8C, al
    hlt

handler:
    inc byte [count]
    iret

text db "limen"
count db 0
