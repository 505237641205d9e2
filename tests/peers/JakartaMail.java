// Sends one message after the other over one connection with Jakarta Mail.
//
// HOST PORT starttls|implicit MECHANISM USER CA_FILE FROM TO SUBJECT MESSAGES; the password comes on standard input.

import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Date;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class JakartaMail {
    public static void main(String[] given) throws Exception {
        String host = given[0], protocol = given[2].equals("implicit") ? "smtps" : "smtp";
        String password = new BufferedReader(new InputStreamReader(System.in)).readLine();
        Properties settings = new Properties();
        String prefix = "mail." + protocol + ".";
        settings.put(prefix + "auth", "true");
        settings.put(prefix + "auth.mechanisms", given[3]);
        settings.put(prefix + "starttls.required", String.valueOf(protocol.equals("smtp")));
        settings.put(prefix + "ssl.checkserveridentity", "true");
        settings.put(prefix + "ssl.socketFactory", trusting(given[5]).getSocketFactory());
        Session session = Session.getInstance(settings);
        try (Transport transport = session.getTransport(protocol)) {
            transport.connect(host, Integer.parseInt(given[1]), given[4], password);
            for (int number = 0; number < Integer.parseInt(given[9]); number++) {
                MimeMessage message = new MimeMessage(session);
                message.setFrom(given[6]);
                message.setRecipients(Message.RecipientType.TO, InternetAddress.parse(given[7]));
                message.setSubject(given[8] + " " + number);
                message.setSentDate(new Date());
                message.setText("From Jakarta Mail.\n.\nGrüße.\n", "utf-8");
                message.saveChanges();
                transport.sendMessage(message, message.getAllRecipients());
            }
        }
    }

    private static SSLContext trusting(String file) throws Exception {
        KeyStore anchors = KeyStore.getInstance(KeyStore.getDefaultType());
        anchors.load(null, null);
        try (FileInputStream in = new FileInputStream(file)) {
            CertificateFactory x509 = CertificateFactory.getInstance("X.509");
            anchors.setCertificateEntry("anchor", x509.generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(anchors);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
