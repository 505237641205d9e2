<?php
// Sends with PHPMailer over one connection; what is wanted comes as JSON on standard input.
$library = getenv('PHPMAILER') ?: '/usr/share/php/libphp-phpmailer/src';
require "$library/Exception.php";
require "$library/PHPMailer.php";
require "$library/SMTP.php";

use PHPMailer\PHPMailer\PHPMailer;

$wanted = json_decode(stream_get_contents(STDIN), true);
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = $wanted['host'];
$mail->Port = $wanted['port'];
$mail->SMTPAuth = true;
$mail->AuthType = $wanted['mechanism'];
$mail->Username = $wanted['user'];
$mail->Password = $wanted['password'];
$mail->SMTPSecure = $wanted['implicit'] ? PHPMailer::ENCRYPTION_SMTPS : PHPMailer::ENCRYPTION_STARTTLS;
$mail->SMTPOptions = ['ssl' => ['cafile' => $wanted['ca'], 'peer_name' => $wanted['host']]];
$mail->SMTPKeepAlive = true;
$mail->CharSet = PHPMailer::CHARSET_UTF8;
$mail->setFrom($wanted['from']);
$mail->addAddress($wanted['to']);
for ($number = 0; $number < $wanted['messages']; $number++) {
    $mail->Subject = "{$wanted['subject']} $number";
    $mail->Body = "From PHPMailer.\n.\nGrüße.\n";
    $mail->send();
}
$mail->smtpClose();
